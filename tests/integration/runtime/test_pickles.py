"""A checkpoint that names code is refused before it runs; what DeepSpeed writes loads."""

import os
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("deepspeed")

import torch
from deepspeed.runtime.fp16.loss_scaler import DynamicLossScaler, LossScaler
from deepspeed.runtime.zero.config import ZeroStageEnum
from deepspeed.utils.tensor_fragment import fragment_address

from openrlhf_prefix.errors import UserError
from openrlhf_prefix.runtime.learner import pickles

FORCE = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"


class Code:
    """Makes a file when it is unpickled."""

    def __init__(self, made: Path) -> None:
        self.made = made

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.made),)


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_checkpoint_is_refused_and_does_not_run(tmp_path: Path, protocol: int, zipped: bool) -> None:
    """By every pickle protocol, in the look of the driver and in the load of a rank; the file by itself is no dud."""
    made, path = tmp_path / "made", tmp_path / "optim_states.pt"
    torch.save({"step": 1, "state": Code(made)}, path, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    with pytest.raises(UserError, match="optim_states.pt holds more than weights and states"):
        pickles.check(tmp_path)
    with pytest.raises(UserError, match="nothing was loaded"), pickles.restricted(tmp_path):
        torch.load(path, weights_only=False)
    assert not made.exists()
    torch.load(path, weights_only=False)
    assert made.exists()


def test_the_sentence_names_what_was_found(tmp_path: Path) -> None:
    torch.save(Code(tmp_path / "made"), tmp_path / "states.pt")
    with pytest.raises(UserError, match=r"states: it names posix.mkdir\. This"):
        pickles.check(tmp_path)
    with pytest.raises(UserError, match=r"states: .*GLOBAL posix.mkdir"), pickles.restricted(tmp_path):
        torch.load(tmp_path / "states.pt", weights_only=False)


def test_what_deepspeed_writes_loads_as_it_was(tmp_path: Path) -> None:
    states = {
        "zero_stage": ZeroStageEnum.weights,
        "scalers": [LossScaler(1.0), DynamicLossScaler(2.0**16, 2.0, 1000, 1.0, 2)],
        "places": {"layer": fragment_address(numel=4, start=8)},
        "weights": torch.arange(3.0).bfloat16(),
    }
    torch.save(states, tmp_path / "states.pt")
    pickles.check(tmp_path)
    with pickles.restricted(tmp_path):
        found = torch.load(tmp_path / "states.pt", weights_only=False)
    assert found["zero_stage"] is ZeroStageEnum.weights and found["places"] == states["places"]
    assert [vars(scaler) for scaler in found["scalers"]] == [vars(scaler) for scaler in states["scalers"]]
    assert torch.equal(found["weights"], states["weights"])


def test_outside_the_block_nothing_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the two variables of PyTorch were; inside one that allows everything does not count."""
    listed = torch.serialization.get_safe_globals()
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    with pytest.raises(OSError, match="full"), pickles.restricted(tmp_path):
        assert os.environ[FORCE] == "1" and "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD" not in os.environ
        raise OSError("full")
    assert FORCE not in os.environ and os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] == "1"
    assert set(torch.serialization.get_safe_globals()) == set(listed)
