"""What the driver does with the checkpoints it finds, before anything is loaded."""

import errno
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from openrlhf_prefix.checkpoint import manifest
from openrlhf_prefix.checkpoint.store import Store
from openrlhf_prefix.errors import UserError
from openrlhf_prefix.report.run_folder import RunFolder
from openrlhf_prefix.runtime.driver import resume


@pytest.fixture
def args(tmp_path: Path) -> SimpleNamespace:
    """A run with records and checkpoints of steps 2 and 4."""
    args = SimpleNamespace(run=SimpleNamespace(dir=str(tmp_path)))
    args.ckpt = SimpleNamespace(load_enable=True, path=str(tmp_path / "checkpoints"))
    store = Store(tmp_path / "checkpoints" / "_actor")
    for step in (2, 4):
        partial = store.begin(f"global_step{step}")
        (partial / "model.pt").write_bytes(b"weights")
        manifest.write(partial, manifest.seal(partial, ["model.pt"]), {"step": step})
        store.commit(f"global_step{step}")
    RunFolder(tmp_path).append("metrics", [{"step": 4}])
    return args


def files(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def test_a_damaged_checkpoint_is_passed_over_and_kept_and_the_records_stay(args: SimpleNamespace, capsys: Any) -> None:
    folder = Path(args.run.dir)
    (folder / "checkpoints" / "_actor" / "global_step4" / "model.pt").write_bytes(b"weighty")
    before = files(folder)
    choice = resume.find(args)
    assert choice.checkpoint.tag == "global_step2" and files(folder) == before, "looking changes nothing"
    resume.set_aside(args, choice)
    renamed = {name.replace("_actor/global_step4", "_actor/passed_over_global_step4"): b for name, b in before.items()}
    assert files(folder) == renamed
    assert f"kept as {folder}/checkpoints/_actor/passed_over_global_step4" in capsys.readouterr().out


def test_without_a_usable_checkpoint_checkpoints_and_records_are_kept(args: SimpleNamespace, capsys: Any) -> None:
    folder = Path(args.run.dir)
    for step in (2, 4):
        (folder / "checkpoints" / "_actor" / f"global_step{step}" / "model.pt").write_bytes(b"weighty")
    before = files(folder)
    choice = resume.find(args)
    assert choice.checkpoint is None
    resume.set_aside(args, choice)
    assert sorted(files(folder).values()) == sorted(before.values()), "not a byte is lost"
    assert RunFolder(folder).read("metrics") == [] and RunFolder(folder / "before_1").read("metrics") == [{"step": 4}]
    assert resume.find(args).passed_over == []
    assert f"kept as {folder}/before_1" in capsys.readouterr().out


def test_a_file_system_that_does_not_answer_is_refused_and_nothing_changes(
    args: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, honest = Path(args.run.dir), Path.open
    before = files(folder)

    def open_(path: Path, *rest: Any, **options: Any) -> Any:
        if path.name == "model.pt" and path.parent.name == "global_step4":
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        return honest(path, *rest, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", open_)
        with pytest.raises(UserError, match=r"global_step4/model.pt cannot be read \(Input/output error\): that is"):
            resume.find(args)
    assert files(folder) == before and resume.find(args).checkpoint.tag == "global_step4"


def test_without_the_flag_nothing_is_looked_at(args: SimpleNamespace) -> None:
    args.ckpt.load_enable = False
    assert resume.find(args).checkpoint is None and resume.find(args).passed_over == []
