"""The installed stack still has what the runtime relies on. A failure names the seam that moved."""

import importlib.metadata
import inspect
import subprocess
import sys

import pytest

pytest.importorskip("openrlhf")

from openrlhf_prefix import pins  # noqa: E402
from openrlhf_prefix.runtime import seams  # noqa: E402
from openrlhf_prefix.runtime.platform import adapter, flash_attn_cpu  # noqa: E402
from openrlhf_prefix.settings import upstream_cli  # noqa: E402


@pytest.fixture(scope="module", autouse=True)
def on_this_platform():
    adapter.choose().install()


@pytest.mark.parametrize("seam", seams.SEAMS, ids=lambda seam: f"{seam.module}:{seam.name}")
def test_every_seam_exists(seam):
    assert seams.look_up(seam) is not None, seam.why


@pytest.mark.parametrize(("package", "version"), list(pins.COMPARED.items()))
def test_the_installed_versions_are_the_pinned_ones(package, version):
    assert importlib.metadata.version(package) == version


def parameters(function):
    return list(inspect.signature(function).parameters)


def test_a_rank_trains_through_ppo_train_alone():
    """Our loop replaces that method; the actor must not reach the training step any other way."""
    from openrlhf.trainer.ray.ppo_actor import PolicyModelActor

    assert "self.trainer.ppo_train(kl_ctl)" in inspect.getsource(seams.undecorated(PolicyModelActor).fit)


def test_backward_still_takes_an_unscaled_loss():
    from deepspeed.runtime import engine

    assert "def backward(self, loss, retain_graph=False, scale_wrt_gas=True):" in inspect.getsource(engine)


def test_rows_reach_the_ranks_in_equal_consecutive_shares():
    """deal() lays them out for that."""
    from openrlhf.trainer.ray.launcher import RayActorGroup

    source = inspect.getsource(RayActorGroup.async_run_method_batch)
    assert "chunk_size = total_length // effective_actors" in source
    assert "start_idx = chunk_idx * chunk_size" in source


def test_the_actor_trainer_is_looked_up_by_its_module_name():
    from openrlhf.trainer.ray.ppo_actor import PolicyModelActor

    source = inspect.getsource(seams.undecorated(PolicyModelActor).init_model_from_pretrained)
    assert "self.trainer = ActorPPOTrainer(" in source


def test_the_controller_constructor_takes_what_ours_hands_on():
    from openrlhf.trainer.ppo_trainer import BasePPOTrainer, PPOTrainer

    assert parameters(BasePPOTrainer.__init__)[1:] == [
        "strategy",
        "actor_model_group",
        "critic_model_group",
        "reward_model_group",
        "reference_model_group",
        "vllm_engines",
        "tokenizer",
    ]
    assert parameters(seams.undecorated(PPOTrainer).__init__)[1:3] == ["pretrain", "strategy"]


def test_the_engine_marks_the_last_parameter_of_a_round():
    """GlooWorkerExtension reloads when `empty_cache` is set, which upstream sets on the last parameter alone."""
    from openrlhf.trainer.ray.ppo_actor import ActorPPOTrainer

    assert "empty_cache=count == num_params" in inspect.getsource(ActorPPOTrainer.broadcast_to_vllm)


def test_a_cpu_engine_keeps_the_weights_that_vllm_packs():
    """In a process of its own, like an engine: the extension changes vLLM for good. Where oneDNN multiplies in bf16,
    vLLM would leave a tensor without elements, and no later sync could be loaded or checked."""
    code = """
import torch
import openrlhf_prefix.runtime.engine.cpu_worker
from vllm.model_executor.layers.utils import dispatch_cpu_unquantized_gemm
layer = torch.nn.Linear(64, 32, bias=False, dtype=torch.bfloat16).requires_grad_(False)
weight, rows = layer.weight.clone(), torch.randn(4, 64, dtype=torch.bfloat16)
dispatch_cpu_unquantized_gemm(layer, remove_weight=True)
assert torch.equal(layer.weight, weight)
torch.testing.assert_close(layer.cpu_linear(rows, layer.weight, None), rows @ weight.t(), rtol=0.02, atol=0.02)
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)


def test_the_parser_is_built_without_the_heavy_imports():
    code = (
        "import sys; from openrlhf_prefix.settings import upstream_cli; upstream_cli.build_parser(); "
        "assert not {'ray', 'vllm', 'deepspeed', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)


def test_the_parser_has_upstreams_flags_and_types():
    parsed = vars(upstream_cli.build_parser().parse_args(["--actor.adam.lr", "3e-6", "--train.colocate_all"]))
    assert parsed["actor.adam.lr"] == 3e-6
    assert parsed["train.colocate_all"] is True
    assert len(parsed) > 150


def test_flash_attn_is_imported_for_the_functions_that_have_stand_ins():
    """Every name that OpenRLHF's training path imports from flash_attn exists in the stand-in modules."""
    from openrlhf.models import ring_attn_utils

    source = inspect.getsource(ring_attn_utils)
    assert "from flash_attn.bert_padding import index_first_axis, pad_input, rearrange, unpad_input" in source
    assert "from flash_attn.utils.distributed import all_gather" in source
    assert callable(flash_attn_cpu.unpad_input)
