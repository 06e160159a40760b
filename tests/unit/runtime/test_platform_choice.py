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


def test_workers_find_the_compiler_of_their_environment(monkeypatch, tmp_path):
    monkeypatch.delenv("CUDA_HOME", raising=False)
    monkeypatch.setattr(adapter.machine, "cuda_home", lambda: tmp_path)
    monkeypatch.setattr(adapter.sys, "executable", "/venv/bin/python")
    found = adapter.CudaPlatform().environment(None)
    assert found["CUDA_HOME"] == str(tmp_path) and found["PATH"] == f"/venv/bin:{tmp_path}/bin:${{PATH}}"
    monkeypatch.setenv("CUDA_HOME", "/usr/local/cuda")
    assert "CUDA_HOME" not in adapter.CudaPlatform().environment(None)
    monkeypatch.delenv("CUDA_HOME")
    monkeypatch.setattr(adapter.machine, "cuda_home", lambda: None)
    assert set(adapter.CudaPlatform().environment(None)) == {adapter.VARIABLE}


def test_the_variable_wins(monkeypatch):
    monkeypatch.setenv(adapter.VARIABLE, "cpu")
    assert adapter.choose({"GPU": 8.0, "accelerator_type:H100": 1.0}, never).name == "cpu"
    monkeypatch.setenv(adapter.VARIABLE, "tpu")
    with pytest.raises(UserError, match="set it to cuda or cpu"):
        adapter.choose()
