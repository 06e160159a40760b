"""The platform is that of the machines with the GPUs, not of the one that the command was typed on."""

import pytest

from openrlhf_prefix.errors import UserError
from openrlhf_prefix.runtime.platform import adapter


@pytest.fixture(autouse=True)
def undecided(monkeypatch):
    """No choice yet; this machine, the cluster's head, sees no GPU."""
    monkeypatch.setenv(adapter.VARIABLE, "")
    monkeypatch.delenv(adapter.VARIABLE)
    monkeypatch.setattr(adapter.torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(adapter.torch.version, "cuda", None)


def never() -> bool:
    pytest.fail("the cluster was asked")


@pytest.mark.parametrize(
    ("resources", "sees", "expected"),
    [
        ({"CPU": 8.0, "GPU": 8.0, "accelerator_type:H100": 1.0}, never, "cuda"),
        # a kind that Ray does not name: what PyTorch sees on that node counts, whatever the head has
        ({"CPU": 8.0, "GPU": 8.0}, lambda: True, "cuda"),
        ({"CPU": 8.0, "GPU": 2.0}, lambda: False, "cpu"),  # the logical GPUs of a rehearsal
        ({"CPU": 8.0}, never, "cpu"),  # check_gpus() refuses it
        (None, never, "cpu"),
    ],
)
def test_the_clusters_gpus_decide(resources, sees, expected):
    assert adapter.choose(resources, sees).name == expected


def test_a_head_with_a_gpu_does_not_make_a_cluster_of_logical_ones_cuda(monkeypatch):
    monkeypatch.setattr(adapter.torch.cuda, "is_available", lambda: True)
    assert adapter.choose({"GPU": 2.0}, lambda: False).name == "cpu"
    monkeypatch.delenv(adapter.VARIABLE)
    assert adapter.choose().name == "cuda"


CUDA_BUILD = "PyTorch .* is built for CUDA 13.0 and sees no GPU here: "


@pytest.mark.parametrize("variable", [None, "cuda"])
@pytest.mark.parametrize(
    ("rows", "visible", "cause"),
    [
        ("", None, "nvidia-smi shows none: install the NVIDIA driver .580 or later., or ask for GPUs"),
        ("H100, 9.0, 81559, 550.54.15", None, "the NVIDIA driver is 550.54.15, .* needs 580 or later"),
        ("H100, 9.0, 81559, 580.95.05", "", "new enough, 580.95.05.*; CUDA_VISIBLE_DEVICES is ''"),
    ],
)
def test_a_cuda_build_that_sees_no_gpu_is_refused_with_the_cause(monkeypatch, variable, rows, visible, cause):
    """Not taken for a CPU: training would begin, and die in a worker."""
    monkeypatch.setattr(adapter.torch.version, "cuda", "13.0")
    monkeypatch.setattr(adapter.machine, "said_by", lambda *command: rows)
    monkeypatch.setattr(adapter.machine, "driver_cuda", lambda: None)
    for name, value in ((adapter.VARIABLE, variable), ("CUDA_VISIBLE_DEVICES", visible)):
        monkeypatch.delenv(name, raising=False) if value is None else monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=CUDA_BUILD + ".*" + cause):
        adapter.choose()
    monkeypatch.setenv(adapter.VARIABLE, "cpu")
    assert adapter.choose().name == "cpu"


def test_a_head_without_a_gpu_starts_a_run_on_nodes_that_have_some(monkeypatch):
    monkeypatch.setattr(adapter.torch.version, "cuda", "13.0")
    assert adapter.choose({"GPU": 8.0}, lambda: True).name == "cuda"
    monkeypatch.setenv(adapter.VARIABLE, "cuda")
    assert adapter.choose({"GPU": 8.0}, never).name == "cuda"


def test_cuda_by_hand_on_a_build_for_cpus_names_the_other_stack(monkeypatch):
    monkeypatch.setenv(adapter.VARIABLE, "cuda")
    monkeypatch.setattr(adapter.machine, "said_by", lambda *command: None)
    with pytest.raises(
        UserError, match="is built for CPUs: install the other stack .STACK=gpu .*nvidia-smi shows none"
    ):
        adapter.choose()


def test_the_variable_wins(monkeypatch):
    monkeypatch.setenv(adapter.VARIABLE, "cpu")
    assert adapter.choose({"GPU": 8.0, "accelerator_type:H100": 1.0}, never).name == "cpu"
    monkeypatch.setenv(adapter.VARIABLE, "tpu")
    with pytest.raises(UserError, match="set it to cuda or cpu"):
        adapter.choose()
