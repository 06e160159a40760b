"""The installed stack still has what the runtime relies on. A failure names the seam that moved."""

import importlib.metadata
import inspect

import pytest

pytest.importorskip("openrlhf")

from openrlhf_prefix import pins  # noqa: E402
from openrlhf_prefix.runtime import flash_attn_cpu, platform, seams, upstream_cli  # noqa: E402


@pytest.fixture(scope="module", autouse=True)
def on_this_platform():
    platform.choose().install()


@pytest.mark.parametrize("seam", seams.SEAMS, ids=lambda seam: f"{seam.module}:{seam.name}")
def test_every_seam_exists(seam):
    assert seams.look_up(seam) is not None, seam.why


@pytest.mark.parametrize(
    ("package", "version"),
    [
        ("openrlhf", pins.OPENRLHF),
        ("deepspeed", pins.DEEPSPEED),
        ("ray", pins.RAY),
        ("transformers", pins.TRANSFORMERS),
        ("math-verify", pins.MATH_VERIFY),
    ],
)
def test_the_installed_versions_are_the_pinned_ones(package, version):
    assert importlib.metadata.version(package) == version


def parameters(function):
    return list(inspect.signature(function).parameters)


def test_the_loss_is_called_with_the_counts_of_the_optimizer_step():
    from openrlhf.models.loss import PolicyLoss

    assert parameters(PolicyLoss.forward) == [
        "self",
        "log_probs",
        "old_log_probs",
        "advantages",
        "action_mask",
        "rollout_log_probs",
        "dp_size",
        "batch_num_tokens",
        "global_batch_size",
    ]


def test_the_training_step_calls_the_loss_once_and_unpacks_five_results():
    from openrlhf.trainer.ray.ppo_actor import ActorPPOTrainer

    source = inspect.getsource(ActorPPOTrainer.training_step)
    assert source.count("self.actor_loss_fn(") == 1
    assert "actor_loss, clip_ratio, ppo_kl, vllm_kl, is_filter_ratio = self.actor_loss_fn(" in source


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


def test_the_parser_is_built_without_the_heavy_imports():
    import subprocess
    import sys

    code = (
        "import sys; from openrlhf_prefix.runtime import upstream_cli; upstream_cli.build_parser(); "
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
