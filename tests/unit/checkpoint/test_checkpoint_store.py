"""Which checkpoint is used, when a new one gets its name, and which ones go."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from openrlhf_prefix.checkpoint import manifest
from openrlhf_prefix.checkpoint.store import ASIDE, PARTIAL, REPLACED, Store
from openrlhf_prefix.errors import UserError


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "_actor")


def save(store: Store, tag: str, size: int = 10) -> None:
    """A complete checkpoint with one file of `size` bytes."""
    partial = store.begin(tag)
    (partial / "model.pt").write_bytes(b"w" * size)
    manifest.write(partial, manifest.seal(partial, ["model.pt"]), {"tag": tag})
    store.commit(tag)


def test_the_newest_is_the_one_of_the_highest_step_not_of_the_last_letter(store: Store) -> None:
    for step in (9, 10, 2):
        save(store, f"global_step{step}")
    choice = store.choose()
    assert choice.checkpoint.tag == "global_step10" and choice.checkpoint.step == 10
    assert choice.checkpoint.facts == {"tag": "global_step10"} and choice.passed_over == []


def test_the_best_of_a_step_is_later_than_the_regular_one_of_it(store: Store) -> None:
    """It is saved after the evaluation of that step."""
    save(store, "best_global_step4")
    save(store, "global_step4")
    assert store.choose().checkpoint.tag == "best_global_step4"
    save(store, "global_step6")
    assert store.choose().checkpoint.tag == "global_step6"


def test_damaged_ones_are_named_and_the_one_before_them_is_used(store: Store) -> None:
    for step in (2, 4, 6):
        save(store, f"global_step{step}")
    (store.folder / "global_step6" / "model.pt").unlink()
    (store.folder / "global_step4" / "model.pt").write_bytes(b"v" * 10)
    choice = store.choose()
    assert choice.checkpoint.tag == "global_step2"
    assert choice.passed_over[0] == "global_step6: model.pt is missing"
    assert choice.passed_over[1].startswith("global_step4: model.pt does not hold what was written")


def test_nothing_to_choose_from(store: Store) -> None:
    assert store.choose().checkpoint is None
    store.begin("global_step2")
    choice = store.choose()
    assert choice.checkpoint is None and choice.passed_over == ["global_step2: the save was not finished"]


def test_an_unfinished_save_leaves_the_old_ones_and_is_cleared_by_the_next(store: Store) -> None:
    save(store, "global_step2")
    (store.begin("global_step4") / "model.pt").write_bytes(b"half")
    assert store.choose().checkpoint.tag == "global_step2"
    save(store, "global_step4")
    assert [entry.name for entry in sorted(store.folder.iterdir())] == ["global_step2", "global_step4"]


def names(store: Store) -> list[str]:
    return sorted(entry.name for entry in store.folder.iterdir())


def test_a_damaged_one_makes_way_for_the_next_save_of_its_step_and_is_kept(store: Store) -> None:
    save(store, "global_step2")
    for _ in range(2):
        (store.folder / "global_step2" / "model.pt").write_bytes(b"once whole")
        (store.folder / "global_step2" / "more.pt").write_bytes(b"")
        save(store, "global_step2")
    assert store.choose().checkpoint.tag == "global_step2"
    assert names(store) == ["global_step2", f"{ASIDE}global_step2", f"{ASIDE}global_step2_2"]
    assert (store.folder / f"{ASIDE}global_step2" / "model.pt").read_bytes() == b"once whole"
    assert not list(store.folder.glob(f"{REPLACED}*")) and not list(store.folder.glob(f"{PARTIAL}*"))


def test_the_last_k_and_the_best_stay(store: Store) -> None:
    """Five regular ones and a best before them, two are to be kept: steps 8 and 10, and the best of step 4."""
    save(store, "best_global_step4")
    for step in (2, 4, 6, 8, 10):
        save(store, f"global_step{step}")
    assert store.prune("global_step10", keep=2) == ["global_step6", "global_step4", "global_step2"]
    assert store.tags() == ["global_step10", "global_step8", "best_global_step4"]


def test_a_new_best_takes_the_place_of_the_old_one_alone(store: Store) -> None:
    for tag in ("global_step2", "best_global_step2", "global_step4", "best_global_step4"):
        save(store, tag)
    assert store.prune("best_global_step4", keep=2) == ["best_global_step2"]
    assert store.prune("global_step4", keep=1) == ["global_step2"]
    assert store.tags() == ["best_global_step4", "global_step4"]


def test_what_a_resume_passed_over_is_kept_under_another_name_whatever_is_saved_later(store: Store) -> None:
    """Steps 4 and 6 are damaged, the run goes on from 2, saves steps 4 to 10 and keeps one of them: both are there."""
    for step in (2, 4, 6):
        save(store, f"global_step{step}")
    for step in (4, 6):
        (store.folder / f"global_step{step}" / "model.pt").write_bytes(f"damaged {step}".encode())
    moved = store.set_aside(store.choose())
    assert [path.name for path in moved] == [f"{ASIDE}global_step6", f"{ASIDE}global_step4"]
    for step in (4, 6, 8, 10):
        save(store, f"global_step{step}")
        store.prune(f"global_step{step}", keep=1)
    assert names(store) == ["global_step10", f"{ASIDE}global_step4", f"{ASIDE}global_step6"]
    for step in (4, 6):
        assert (store.folder / f"{ASIDE}global_step{step}" / "model.pt").read_bytes() == f"damaged {step}".encode()
    assert store.choose().passed_over == []


@pytest.mark.parametrize("later", ["global_step6", "best_global_step6"])
def test_what_claims_to_be_later_than_the_newest_is_not_removed_either(store: Store, later: str) -> None:
    """Its folder came back while the run went on: a mount that was gone at the start."""
    for tag in (later, "global_step2", "global_step4"):
        save(store, tag)
    assert store.prune("global_step4", keep=1) == ["global_step2"]
    assert names(store) == ["global_step4", f"{ASIDE}{later}"]
    manifest.verify(store.folder / f"{ASIDE}{later}")


def test_a_kill_between_manifest_and_name_is_kept_and_one_before_the_manifest_is_cleared(store: Store) -> None:
    save(store, "global_step2")
    partial = store.begin("global_step4")
    (partial / "model.pt").write_bytes(b"w")
    choice = store.choose()
    assert choice.passed_over == ["global_step4: the save was not finished"] and store.set_aside(choice) == []
    manifest.write(partial, manifest.seal(partial, ["model.pt"]), {})
    assert [path.name for path in store.set_aside(store.choose())] == [f"{ASIDE}global_step4"]
    store.begin("global_step4")
    save(store, "global_step6")
    assert names(store) == ["global_step2", "global_step6", f"{ASIDE}global_step4"]


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE])
@pytest.mark.parametrize("file", ["model.pt", manifest.NAME])
def test_a_read_error_does_not_make_an_older_one_the_newest(
    store: Store, monkeypatch: pytest.MonkeyPatch, number: int, file: str
) -> None:
    """The run would go on from step 2, and its next saves would take the place of an intact step 4."""
    for step in (2, 4):
        save(store, f"global_step{step}")
    honest = Path.open

    def open_(path: Path, *rest: Any, **options: Any) -> Any:
        if path == store.folder / "global_step4" / file:
            raise OSError(number, os.strerror(number), str(path))
        return honest(path, *rest, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", open_)
        with pytest.raises(UserError, match=r"global_step4/\S+ cannot be read .* to go on without global_step4, move"):
            store.choose()
    assert store.choose().checkpoint.tag == "global_step4"


def test_a_folder_of_checkpoints_that_cannot_be_listed_is_not_an_empty_one(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run would start at step 0."""
    save(store, "global_step2")
    for function in ("listdir", "scandir"):
        honest = getattr(os, function)

        def refuse(path: object, honest: Any = honest) -> Any:
            if Path(str(path)) == store.folder:
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
            return honest(path)

        monkeypatch.setattr(os, function, refuse)
    with pytest.raises(UserError, match=r"_actor cannot be read \(Permission denied\)"):
        store.choose()


def test_one_that_a_saving_run_removes_while_it_is_read_is_no_damage(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An export reads step 2 when the run commits step 4 and removes it."""
    save(store, "global_step2")
    honest = manifest.verify

    def verify(folder: Path) -> dict[str, Any]:
        if folder.name == "global_step2":
            save(store, "global_step4")
            store.prune("global_step4", keep=1)
        return honest(folder)

    monkeypatch.setattr(manifest, "verify", verify)
    choice = store.choose()
    assert choice.checkpoint.tag == "global_step4" and choice.passed_over == []


def test_a_folder_that_will_not_go_does_not_end_the_run_and_is_counted(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NFS: somebody reads one of its files, and what is left of that keeps the folder. Later it goes."""
    for step in (2, 4):
        save(store, f"global_step{step}")
    with monkeypatch.context() as patch:
        patch.setattr(os, "rmdir", lambda *args, **options: (_ for _ in ()).throw(OSError(errno.ENOTEMPTY, "busy")))
        assert store.prune("global_step4", keep=1) == ["global_step2"]
        assert store.leftovers() == 1 and store.tags() == ["global_step4"]
        save(store, "global_step2")
        store.prune("global_step4", keep=1)
        assert store.leftovers() == 2
    save(store, "global_step6")
    assert store.leftovers() == 0 and store.tags() == ["global_step6", "global_step4"]


def test_the_oldest_go_until_all_fit_but_never_the_newest(store: Store) -> None:
    """Each takes 1000 bytes and its manifest's some 250: 2600 bytes hold two of them."""
    for step in (2, 4, 6):
        save(store, f"global_step{step}", size=1000)
    assert store.prune("global_step6", keep=3, max_bytes=2700) == ["global_step2"]
    assert store.prune("global_step6", keep=3, max_bytes=1) == ["global_step4"]
    assert store.tags() == ["global_step6"]


def test_a_name_that_is_none_is_refused(store: Store) -> None:
    with pytest.raises(ValueError, match="'latest' is no name"):
        store.begin("latest")
