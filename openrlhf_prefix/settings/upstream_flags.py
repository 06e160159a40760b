"""What every flag of OpenRLHF 0.11.2's train_ppo_ray is worth here.

TESTED      allowed: the test named before them runs with a value of theirs, or checks what they do
IDLE        without effect, and why; a run that gives one is told in one line
REFUSED     refused as soon as they are set, and why
everything else works as far as we know, and a run that changes one is told "not tested with prefixes"

tests/contract/test_upstream_parser.py holds the table against the installed parser, and against the tests it names.
"""

from collections.abc import Mapping
from typing import Any

from openrlhf_prefix.errors import UserError

TESTED = {
    "tests/e2e/test_training.py": (  # the quickstart
        *("actor.model_name_or_path", "actor.num_gpus_per_node", "actor.adam.lr", "actor.lr_scheduler"),
        *("actor.lr_warmup_ratio", "data.prompt_dataset", "data.apply_chat_template", "data.max_samples"),
        *("data.max_len", "rollout.batch_size", "rollout.n_samples_per_prompt", "rollout.micro_batch_size"),
        *("rollout.max_new_tokens", "train.batch_size", "train.micro_batch_size", "train.colocate_all"),
        *("eval.dataset", "eval.steps", "eval.n_samples_per_prompt", "eval.temperature"),
        *("vllm.gpu_memory_utilization", "vllm.enforce_eager", "ckpt.save_steps", "ckpt.best_metric_key"),
        *("algo.advantage.is_correction_level", "actor.entropy_coef", "vllm.num_engines"),
    ),
    "tests/e2e/test_two_nodes.py": ("actor.num_nodes",),
    "tests/e2e/test_resume.py": ("ckpt.load_enable", "ckpt.max_num", "train.num_episodes"),
    "tests/e2e/test_reward_errors.py": ("reward.remote_url",),
    "tests/integration/runtime/test_exactness.py": (
        *("algo.advantage.is_correction_mode", "algo.advantage.is_correction_threshold"),
        *("algo.kl.use_loss", "algo.kl.init_coef", "algo.kl.estimator", "actor.eps_clip_low_high", "actor.dual_clip"),
        *("ds.zero_stage", "ds.adam_offload", "ds.packing_samples", "ds.attn_implementation"),
        *("train.dynamic_batch_enable", "train.max_tokens_per_gpu", "rollout.temperature"),
    ),
    "tests/integration/runtime/test_filtering.py": (
        *("algo.dynamic_filtering_enable", "algo.dynamic_filtering_range"),
    ),
    "tests/integration/runtime/test_checkpoints.py": ("ds.lora.rank",),
    "tests/integration/runtime/test_average.py": ("train.enable_ema", "train.ema_beta"),
    "tests/contract/test_loss_against_openrlhf.py": (
        *("algo.advantage.is_correction_gating", "actor.policy_loss_type"),
    ),
    "tests/unit/settings/test_flags.py": (*("algo.advantage.estimator", "actor.loss_agg_mode", "logger.wandb.key"),),
    "tests/unit/data/test_problems.py": ("data.input_key", "data.label_key", "data.input_template", "train.seed"),
}

NO_CRITIC = "there is no critic"
_CRITIC: tuple[str, ...] = (
    "num_nodes",
    "num_gpus_per_node",
    "model_name_or_path",
    "value_clip",
    "save_value_network",
    "optim",
)
_CRITIC += ("muon.lr", "muon.momentum", "muon.ns_steps", "muon.nesterov", "muon.no_nesterov")
_CRITIC += ("adam.lr", "adam.betas", "adam.eps", "adam.weight_decay")
_CRITIC += ("lr_scheduler", "lr_warmup_ratio", "min_lr_ratio", "max_norm")
IDLE = {
    **{f"critic.{name}": NO_CRITIC for name in _CRITIC},
    "train.colocate_critic_reward": NO_CRITIC,
    "algo.advantage.lambd": "advantages of a group are not discounted",
    "algo.advantage.gamma": "advantages of a group are not discounted",
    "train.async_queue_size": "rollouts and training alternate",
    "data.image_key": "prompts are text",
    "actor.freeze_visual_encoder": "prompts are text",
    "data.dataloader_num_workers": "problems are read once, before the run",
    "local_rank": "Ray gives every rank its own",
}

REFUSED = {
    "train.async_enable": "the prefix schedule needs the step each rollout belongs to; leave it out (rollouts and "
    "training then alternate)",
    "train.partial_rollout_enable": "it is a part of train.async_enable; leave it out",
    "data.prompt_probs": "an episode visits every problem once; repeat a file's rows instead",
    "data.max_images_per_prompt": "prefix rollouts are text only; leave it at 0",
    "ds.tensor_parallel_size": "its slices cannot be compared with the engines after a sync; use ds.zero_stage 3, "
    "which cuts the weights as well, and leave it at 1",
    "critic.freezing_steps": "there is no critic here, and the actor would wait for it; leave it out",
    "ds.use_universal_ckpt": "a run goes on from its own checkpoints, whose files are sealed; leave it out",
}

_TOLD = {*IDLE, *REFUSED, *(name for names in TESTED.values() for name in names)}


def refuse(changed: Mapping[str, Any]) -> None:
    """Raises UserError for the first flag of REFUSED among those whose value is not OpenRLHF's default."""
    for name, value in changed.items():
        if name in REFUSED:
            raise UserError(f"{name} is not supported with {value}: {REFUSED[name]}")


def notes(given: Mapping[str, Any], changed: Mapping[str, Any], known: Mapping[str, Any]) -> list[str]:
    """Lines about flags that a run may as well not have been given.

    Args:
        given: flags that the user wrote down, whatever their value.
        changed: those of them whose value is not OpenRLHF's default.
        known: the flags of OpenRLHF's parser.
    """
    lines = []
    reasons: dict[str, list[str]] = {}
    for name in given:
        if name in IDLE:
            reasons.setdefault(IDLE[name], []).append(name)
    if reasons:
        parts = [f"{', '.join(names)} ({why})" for why, names in reasons.items()]
        lines.append(f"without effect here: {'; '.join(parts)}")
    if untested := [name for name in changed if name in known and name not in _TOLD]:
        lines.append(f"not tested with prefixes: {', '.join(untested)}")
    return lines
