"""What the training ranks write: complete checkpoints that continue to the bit, and exports that equal each other."""

import errno
import json
import os
import random
import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("openrlhf")

import torch
from deepspeed.runtime.checkpoint_engine.torch_checkpoint_engine import TorchCheckpointEngine
from peft import PeftConfig, PeftModel
from policy_ranks import completed, make_policy, make_source, run_ranks, train
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from openrlhf_prefix.checkpoint import manifest
from openrlhf_prefix.checkpoint.store import Store
from openrlhf_prefix.errors import RunStopped, UserError
from openrlhf_prefix.runtime.driver import resume
from openrlhf_prefix.runtime.learner import export, export_command
from openrlhf_prefix.runtime.learner.checkpoints import names_of, wait_for_all
from openrlhf_prefix.runtime.learner.states import Generators
from openrlhf_prefix.runtime.platform import adapter

LAYOUTS = [(ranks, stage, tied, 0) for ranks in (1, 2) for stage in (2, 3) for tied in (False, True)]
LAYOUTS += [(1, 2, True, 4), (2, 3, False, 4)]  # the last number is the rank of LoRA
ALL_LAYOUTS = pytest.mark.parametrize(("ranks", "stage", "tied", "rank"), LAYOUTS)
CONTROLLER = {"global_step": 1, "parts": {"kl": {"value": 0.01}}}


def run_of(folder: Path, ranks: int, stage: int, tied: bool, rank: int) -> Path:
    return folder / f"run_{ranks}_{stage}_{tied}_{rank}"


def draws() -> list[float]:
    """One number of each generator of this process."""
    return [random.random(), float(np.random.rand()), float(torch.rand(()))]


def save_and_go_on(folder: Path, ranks: int) -> None:
    """Of every layout: two checkpoints, an export of the second, and what the next step makes of either.

    The second is written only after that step has moved every weight, moment and generator.
    """
    for layout in (layout for layout in LAYOUTS if layout[0] == ranks):
        _, stage, tied, rank = layout
        model, run = folder / f"tied_{tied}", run_of(folder, *layout)
        flags = {"ds.zero_stage": stage, "ds.lora.rank": rank}
        policy = make_policy(model, run, **flags)
        gate = threading.Event()
        for step in (1, 2):
            train(policy, seed=step)
            if step == 2:
                policy.background.wait()
                policy.background._thread.submit(gate.wait)
            policy.save_checkpoint(f"global_step{step}", {**CONTROLLER, "global_step": step})
        policy.save_model()
        held = len(export.gather(policy.actor.model, policy.strategy.args))
        found = {"uninterrupted": [draws(), train(policy, seed=3), policy.weight_fingerprints(), draws()]}
        found["complete before"] = [tag for tag, _ in policy.saves(wait=False)]
        gate.set()
        found["complete"] = completed(policy)
        policy.actor.model.destroy()
        again = make_policy(model, run, "global_step2", **flags)
        found["gathered tensors"] = held
        found["resumed"] = [draws(), train(again, seed=3), again.weight_fingerprints(), draws()]
        again.actor.model.destroy()
        torch.save(found, run / f"found_{torch.distributed.get_rank()}.pt")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    for tied in (False, True):
        make_source(folder / f"tied_{tied}", tied)
    for ranks in (1, 2):
        run_ranks(ranks, save_and_go_on, folder, ranks)
    return folder


@ALL_LAYOUTS
def test_a_resumed_rank_goes_on_to_the_bit(runs: Path, ranks: int, stage: int, tied: bool, rank: int) -> None:
    """Its generators draw the same, and the next step has the same metrics and moves every weight alike."""
    for process in range(ranks):
        path = run_of(runs, ranks, stage, tied, rank) / f"found_{process}.pt"
        found = torch.load(path, weights_only=False)
        assert found["resumed"] == found["uninterrupted"]
        assert found["resumed"][0] != found["resumed"][3]
        assert (found["complete before"], found["complete"]) == (["global_step1"], ["global_step2"])


@ALL_LAYOUTS
def test_only_the_rank_that_writes_holds_the_whole_model(
    runs: Path, ranks: int, stage: int, tied: bool, rank: int
) -> None:
    """Eight ranks on a node would hold it eight times."""
    paths = [run_of(runs, ranks, stage, tied, rank) / f"found_{process}.pt" for process in range(ranks)]
    held = [torch.load(path, weights_only=False)["gathered tensors"] for path in paths]
    assert held[0] > 20 and not any(held[1:])


@pytest.mark.parametrize(("platform", "kept"), [("cpu", False), ("cuda", True)])
def test_the_platform_decides_whether_a_gpus_generator_is_saved(monkeypatch, platform: str, kept: bool) -> None:
    """A run on the CPU of a machine with a GPU leaves that alone."""
    monkeypatch.setenv(adapter.VARIABLE, platform)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: not kept)
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda: torch.zeros(1))
    assert (Generators().state_dict()["cuda"] is not None) is kept


@ALL_LAYOUTS
def test_the_export_of_a_checkpoint_is_that_of_the_run(
    runs: Path, tmp_path: Path, ranks: int, stage: int, tied: bool, rank: int
) -> None:
    """File by file and byte by byte, made without any rank; the newest is taken where a run is named."""
    run = run_of(runs, ranks, stage, tied, rank)
    export_command.main([str(run), str(tmp_path / "out")])
    ours, theirs = (
        {path.name: path.read_bytes() for path in folder.iterdir()} for folder in (tmp_path / "out", run / "export")
    )
    assert ours.pop("README.md").startswith(b"---\nlibrary_name")  # the run's is written by its driver
    assert ours == theirs


@ALL_LAYOUTS
def test_an_export_holds_the_tensors_of_its_source_and_loads(
    runs: Path, ranks: int, stage: int, tied: bool, rank: int
) -> None:
    folder, source = run_of(runs, ranks, stage, tied, rank) / "export", runs / f"tied_{tied}"
    names = []
    for place in (folder, source):
        with safe_open(place / "model.safetensors", "pt") as file:
            names.append(sorted(file.keys()))
    assert names[0] == names[1] and ("lm_head.weight" in names[0]) is not tied
    model, report = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    assert model.dtype == torch.bfloat16 and model.config.use_cache
    assert (model.lm_head.weight is model.model.embed_tokens.weight) is tied
    assert GenerationConfig.from_pretrained(folder).eos_token_id == [2, 5]
    assert AutoTokenizer.from_pretrained(folder).chat_template == AutoTokenizer.from_pretrained(source).chat_template
    before = AutoModelForCausalLM.from_pretrained(source)
    projections = [each.model.layers[0].mlp.up_proj.weight for each in (model, before)]
    assert not torch.equal(*projections)


@pytest.mark.parametrize("layout", LAYOUTS[-2:])
def test_an_adapter_on_top_of_its_source_is_the_merged_export(runs: Path, tmp_path: Path, layout: tuple) -> None:
    """PEFT merges in fp32 here; the export is that, rounded to bf16."""
    export_command.main([str(run_of(runs, *layout)), str(tmp_path / "adapter"), "--adapter"])
    source = AutoModelForCausalLM.from_pretrained(runs / f"tied_{layout[2]}", dtype=torch.bfloat16)
    theirs = PeftModel.from_pretrained(source.float(), tmp_path / "adapter").merge_and_unload().state_dict()
    ours = AutoModelForCausalLM.from_pretrained(run_of(runs, *layout) / "export").state_dict()
    assert theirs.keys() == ours.keys()
    for name, tensor in theirs.items():
        assert torch.equal(tensor.bfloat16(), ours[name]), name
    assert PeftConfig.from_pretrained(tmp_path / "adapter").base_model_name_or_path == str(runs / f"tied_{layout[2]}")
    assert {path.name for path in (tmp_path / "adapter").iterdir()} == {
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
    }


def test_what_has_no_adapter_is_not_exported_as_one(runs: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"not trained with LoRA \(ds.lora.rank is 0\): leave --adapter out"):
        export_command.main([str(run_of(runs, *LAYOUTS[0])), str(tmp_path / "adapter"), "--adapter"])
    assert not any(tmp_path.iterdir())


def save_with_an_old_list(folder: Path) -> None:
    """Rank 1 has the names that a shared folder had before rank 0 wrote: what a client of NFS may see after a barrier.

    Rank 0, which reads the folder at the end, sees all of it, and first for a moment without a file of rank 1.
    """
    policy = make_policy(folder / "source", folder / "run", **{"ds.zero_stage": 3})
    rank, honest, size = torch.distributed.get_rank(), manifest.files_of, manifest._size
    looks = []

    def listed(place: Path) -> list[str]:
        return [name for name in honest(place) if rank == 0 or "rank_0" not in name and "hf" not in name]

    def size_of(path: Path) -> int | None:
        looks.append(path.name)
        return None if path.name == "rank_1.pt" and looks.count("rank_1.pt") == 1 else size(path)

    manifest.files_of, manifest._size = listed, size_of
    policy.save_checkpoint("global_step1", CONTROLLER)
    policy.saves(wait=True)
    assert looks.count("rank_1.pt") == (2 if rank == 0 else 0)


def test_every_rank_seals_what_it_wrote_whatever_the_shared_folder_lists(tmp_path: Path) -> None:
    make_source(tmp_path / "source", tied=False)
    run_ranks(2, save_with_an_old_list, tmp_path)
    store = Store(tmp_path / "run" / "checkpoints" / "_actor")
    assert store.choose().checkpoint is not None, store.choose().passed_over
    sealed = manifest.read(store.folder / "global_step1")["files"]
    assert sorted(sealed) == manifest.files_of(store.folder / "global_step1") and len(sealed) == 13


def test_a_rank_names_what_it_wrote_whatever_the_folder_lists(tmp_path: Path, monkeypatch) -> None:
    """A listing from before the others' files, and before its own: what NFS may answer behind a barrier."""
    (tmp_path / "rank_1.pt").write_bytes(b"generators")
    monkeypatch.setattr(manifest, "files_of", lambda folder: [])
    assert names_of([tmp_path / "rank_1.pt"], tmp_path) == ["rank_1.pt"]


def test_files_that_do_not_appear_or_belong_to_nobody_stop_the_save(tmp_path: Path) -> None:
    (tmp_path / "rank_0.pt").write_bytes(b"generators")
    sealed = manifest.seal(tmp_path, ["rank_0.pt"])
    wait_for_all(tmp_path, sealed, seconds=0.0)
    with pytest.raises(RunStopped, match=r"does not see rank_1.pt in .* one shared folder of all nodes"):
        wait_for_all(tmp_path, {**sealed, "rank_1.pt": sealed["rank_0.pt"]}, seconds=0.05)
    (tmp_path / "rank_2.pt").write_bytes(b"")
    with pytest.raises(RunStopped, match=r"holds rank_2.pt, which no rank has written"):
        wait_for_all(tmp_path, sealed)


def save_on_a_full_disk(folder: Path, background: bool) -> None:
    """At every file in turn: of DeepSpeed, of the rank, of the controller, of the export, and the manifest."""
    flags = {"ds.zero_stage": 3, "run.background_save": background}
    policy = make_policy(folder / "source", folder / "run", **flags)
    policy.save_checkpoint("global_step1", CONTROLLER)
    policy.saves(wait=True)
    writers = [(torch, "save", number) for number in range(4)] + [(Path, "write_text", 0), (Path, "write_bytes", 0)]
    for owner, name, number in writers:
        honest, calls = getattr(owner, name), []

        def full(*args: Any, calls: list = calls, number: int = number, honest: Any = honest, **options: Any) -> Any:
            calls.append(1)
            if len(calls) > number:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return honest(*args, **options)

        setattr(owner, name, full)
        try:
            with pytest.raises(RunStopped, match="global_step2 could not be saved by rank 0 .*No space left"):
                policy.save_checkpoint("global_step2", CONTROLLER)
                assert background  # else it has failed by now
                policy.saves(wait=True)
        finally:
            setattr(owner, name, honest)
        assert len(calls) == number + 1
        assert policy.actor.model.checkpoint_engine.save.__func__ is TorchCheckpointEngine.save
        choice = Store(folder / "run" / "checkpoints" / "_actor").choose()
        assert choice.checkpoint.tag == "global_step1"
    policy.save_checkpoint("global_step2", CONTROLLER)
    policy.saves(wait=True)


@pytest.mark.parametrize("background", [True, False])
def test_a_full_disk_ends_a_save_in_a_sentence_and_leaves_what_was_there(tmp_path: Path, background: bool) -> None:
    make_source(tmp_path / "source", tied=False)
    run_ranks(1, save_on_a_full_disk, tmp_path, background)
    choice = Store(tmp_path / "run" / "checkpoints" / "_actor").choose()
    assert choice.checkpoint.tag == "global_step2" and choice.passed_over == []


def save_with_a_full_disk_elsewhere(folder: Path) -> None:
    """Rank 1 cannot write; rank 0 says so, too, and does not wait for it."""
    policy = make_policy(folder / "source", folder / "run", **{"ds.zero_stage": 3})
    if torch.distributed.get_rank() == 1:
        torch.save = failing
    policy.save_checkpoint("global_step1", CONTROLLER)
    with pytest.raises(RunStopped, match="global_step1 could not be saved by rank 1 on .*No space left"):
        policy.saves(wait=True)


def failing(*args: Any, **options: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_every_rank_hears_that_one_could_not_write(tmp_path: Path) -> None:
    make_source(tmp_path / "source", tied=False)
    run_ranks(2, save_with_a_full_disk_elsewhere, tmp_path, seconds=120.0)
    assert Store(tmp_path / "run" / "checkpoints" / "_actor").choose().checkpoint is None


def load_what_has_moved(folder: Path) -> None:
    policy = make_policy(folder / "source", folder / "run", **{"ds.zero_stage": 2})
    policy.save_checkpoint("global_step1", CONTROLLER)
    policy.saves(wait=True)
    actor = folder / "run" / "checkpoints" / "_actor"
    actor.rename(actor.with_name("elsewhere"))
    make_policy(folder / "source", folder / "run", "global_step1", **{"ds.zero_stage": 2})


def test_a_checkpoint_that_moved_between_choice_and_load_is_not_a_start_with_base_weights(tmp_path: Path) -> None:
    make_source(tmp_path / "source", tied=False)
    with pytest.raises(Exception, match="does not find .*global_step1 as the driver has compared it"):
        run_ranks(1, load_what_has_moved, tmp_path)


class Code:
    """Makes a folder when it is unpickled."""

    def __init__(self, made: Path) -> None:
        self.made = made

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.made),)


def load_a_strangers(folder: Path) -> None:
    """Whose every file of DeepSpeed holds code in turn, sealed again, as whoever makes one can seal it."""
    policy = make_policy(folder / "source", folder / "run", **{"ds.zero_stage": 3})
    policy.save_checkpoint("global_step1", CONTROLLER)
    policy.saves(wait=True)
    policy.actor.model.destroy()
    checkpoint = folder / "run" / "checkpoints" / "_actor" / "global_step1"
    facts, names = manifest.read(checkpoint)["facts"], manifest.files_of(checkpoint)
    files = sorted(checkpoint.glob("*_states.pt"))
    assert len(files) == 2
    for path in files:
        honest = path.read_bytes()
        torch.save({**torch.load(path, weights_only=False), "more": Code(folder / "made")}, path)
        manifest.write(checkpoint, manifest.seal(checkpoint, names), facts)
        with pytest.raises(UserError, match="more than weights and states: it names posix.mkdir"):
            resume.check(Store(checkpoint.parent).choose().checkpoint, facts)
        with pytest.raises(UserError, match="more than weights and states: GLOBAL posix.mkdir"):
            make_policy(folder / "source", folder / "run", "global_step1", **{"ds.zero_stage": 3})
        with pytest.raises(UserError, match="more than weights and states: GLOBAL posix.mkdir"):
            export_command.main([str(folder / "run"), str(folder / "out")])
        path.write_bytes(honest)
    assert not (folder / "made").exists() and not (folder / "out").exists()


def test_code_in_a_strangers_checkpoint_does_not_run(tmp_path: Path) -> None:
    make_source(tmp_path / "source", tied=False)
    run_ranks(1, load_a_strangers, tmp_path)


NEWEST = "run_2_3_True_0/checkpoints/_actor/global_step2"


def damage(path: Path, kind: str) -> None:
    content = path.read_bytes()
    if kind == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif kind == "emptied":
        path.write_bytes(b"")
    elif kind == "zeroed":
        path.write_bytes(bytes(len(content)))
    elif kind == "one bit":
        middle = len(content) // 2
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    else:
        path.unlink()


def test_every_damage_to_any_file_is_named_and_the_checkpoint_before_is_used(runs: Path, tmp_path: Path) -> None:
    """Five kinds for each of the 14 files of two ranks: decided without loading anything, so alike for all ranks."""
    names = [*manifest.files_of(runs / NEWEST), manifest.NAME]
    assert len(names) == 14 and {Path(name).suffix for name in names} == {".pt", ".json", ".jinja"}
    for name in names:
        for kind in ("truncated", "emptied", "zeroed", "one bit", "deleted"):
            copy = tmp_path / "_actor"
            shutil.copytree((runs / NEWEST).parent, copy)
            damage(copy / "global_step2" / name, kind)
            choice = Store(copy).choose()
            assert choice.checkpoint is not None and choice.checkpoint.tag == "global_step1", (name, kind)
            assert len(choice.passed_over) == 1 and f"global_step2: {name}" in choice.passed_over[0].replace(
                "it has no ", ""
            )
            shutil.rmtree(copy)


def test_a_damaged_checkpoint_is_not_exported(runs: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(runs / NEWEST, tmp_path / "global_step2")
    damage(copy / "rank_1.pt", "one bit")
    with pytest.raises(UserError, match=r"is damaged: rank_1\.pt does not hold"):
        export_command.main([str(copy), str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_exports_and_checkpoints_are_not_taken_for_each_other(runs: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is an export"):
        export_command.main([str(runs / "run_1_3_True_0" / "export"), str(tmp_path / "out")])
    with pytest.raises(UserError, match="exists already"):
        export_command.main([str(runs / NEWEST), str(tmp_path)])
    with pytest.raises(UserError, match="holds no complete checkpoint"):
        export_command.main([str(tmp_path), str(tmp_path / "out")])


def nonfinite_steps(folder: Path) -> None:
    """A loss, then a gradient, that is not finite on one rank alone; a good step; then weights that are not."""
    policy = make_policy(folder / "source", folder / "run", **{"ds.zero_stage": 3})
    before, found = policy.weight_fingerprints(), {}
    last = torch.distributed.get_rank() == 1
    found["loss"] = train(policy, seed=1, advantages=float("nan") if last else 1.0)
    found["unmoved by the loss"] = policy.weight_fingerprints() == before
    honest = policy.trainer._loss

    def steep(*args: Any) -> torch.Tensor:
        """The loss is finite, its derivative is 0 / 0."""
        loss = honest(*args)
        return loss + ((loss * 0).sqrt() if last else 0)

    policy.trainer._loss = steep
    found["gradient"] = train(policy, seed=1)
    found["unmoved by the gradient"] = policy.weight_fingerprints() == before
    policy.trainer._loss = honest
    found["good"] = train(policy, seed=1)
    found["moved"] = policy.weight_fingerprints() != before
    for number in range(3):
        try:
            train(policy, seed=1, advantages=float("inf"))
        except RunStopped as stop:
            found["stopped"] = (number, str(stop))
    if last:
        next(policy.actor.model.module.parameters()).ds_tensor.data.view(-1)[0] = float("nan")
    try:
        policy.save_checkpoint("global_step9", CONTROLLER)
    except RunStopped as stop:
        found["not saved"] = str(stop)
    torch.save(found, folder / f"found_{torch.distributed.get_rank()}.pt")


def test_what_is_not_finite_is_left_out_counted_and_never_saved(tmp_path: Path) -> None:
    make_source(tmp_path / "source", tied=False)
    run_ranks(2, nonfinite_steps, tmp_path)
    for rank in range(2):
        found = torch.load(tmp_path / f"found_{rank}.pt", weights_only=False)
        assert found["unmoved by the loss"] and found["unmoved by the gradient"] and found["moved"]
        assert [found[name]["skipped_steps"] for name in ("loss", "gradient", "good")] == [1.0, 1.0, 0.0]
        assert "policy_loss" not in found["loss"] and "policy_loss" in found["good"]
        assert found["stopped"][0] == 2 and "3 optimizer steps in a row" in found["stopped"][1]
        assert found["not saved"].startswith("1 weight tensors are not finite")
    assert not (tmp_path / "run" / "checkpoints").exists()
    assert json.loads(json.dumps(found["good"])) == found["good"]
