"""Flags of earlier OpenRLHF versions, answered with what they are called now.

    0.5 .. 0.10    --actor_num_nodes, --remote_rm_url, ...           flat names
    0.11.0         --actor.num_nodes, --reward.remote_url, ...       dotted names
    0.11.2         --algo.advantage.is_correction_enable, _type      became _level, _mode, _gating

From the parsers of OpenRLHF v0.7.0, v0.8.0, v0.9.10, v0.10.4, v0.11.0 and the installed one.
"""

from collections.abc import Mapping, Sequence

from openrlhf_prefix.errors import UserError

# A group took in the flat names that it does not say itself: --max_len is --data.max_len.
_MOVED = {
    "actor": "aux_loss_coef dual_clip eps_clip eps_clip_low_high freeze_visual_encoder lr_scheduler lr_warmup_ratio "
    "max_norm policy_loss_type",
    "algo.advantage": "gamma lambd",
    "ckpt": "best_metric_key save_steps",
    "critic": "save_value_network value_clip",
    "data": "apply_chat_template dataloader_num_workers disable_fast_tokenizer image_key input_key input_template "
    "label_key max_images_per_prompt max_len max_samples prompt_split",
    "ds": "adam_offload attn_implementation deepcompile experts_implementation grad_accum_dtype load_in_4bit "
    "overlap_comm packing_samples param_dtype ring_attn_size use_liger_kernel value_head_prefix zero_stage zpg",
    "logger": "logging_steps",
    "reward": "overlong_buffer_len overlong_penalty_factor stop_properly_penalty_coef",
    "rollout": "max_new_tokens n_samples_per_prompt temperature top_p vllm_generate_batch_size",
    "train": "agent_func_path async_queue_size colocate_actor_ref colocate_critic_reward ema_beta enable_ema "
    "max_epochs num_episodes seed",
    "vllm": "enable_prefix_caching enforce_eager",
}
# The group's name was a part of the flat one: --vllm_enable_sleep is --vllm.enable_sleep.
_SPLIT = {
    "actor": "num_gpus_per_node num_nodes",
    "ckpt": "path",
    "critic": "num_gpus_per_node num_nodes",
    "ds": "tensor_parallel_size",
    "eval": "dataset n_samples_per_prompt split steps temperature",
    "ref": "num_gpus_per_node num_nodes",
    "reward": "clip_range num_gpus_per_node num_nodes",
    "rollout": "batch_size max_tokens_per_gpu",
    "train": "batch_size max_tokens_per_gpu",
    "vllm": "enable_sleep gpu_memory_utilization num_engines sync_backend sync_with_ray tensor_parallel_size",
}
_NEW = {
    "actor_learning_rate": "actor.adam.lr",
    "adam_betas": "actor.adam.betas",
    "advantage_estimator": "algo.advantage.estimator",
    "async_train": "train.async_enable",
    "colocate_all_models": "train.colocate_all",
    "critic_learning_rate": "critic.adam.lr",
    "critic_pretrain": "critic.model_name_or_path",
    "deepspeed_enable_sleep": "ds.enable_sleep",
    "disable_ds_ckpt": "ckpt.disable_ds",
    "dynamic_filtering": "algo.dynamic_filtering_enable",
    "dynamic_filtering_reward_range": "algo.dynamic_filtering_range",
    "entropy_loss_coef": "actor.entropy_coef",
    "freezing_actor_steps": "critic.freezing_steps",
    "full_determinism": "train.full_determinism_enable",
    "generate_max_len": "rollout.max_new_tokens",
    "gradient_checkpointing": "actor.gradient_checkpointing_enable",
    "gradient_checkpointing_use_reentrant": "actor.gradient_checkpointing_reentrant",
    "init_kl_coef": "algo.kl.init_coef",
    "kl_estimator": "algo.kl.estimator",
    "kl_horizon": "algo.kl.horizon",
    "kl_target": "algo.kl.target",
    "l2": "actor.adam.weight_decay",
    "load_checkpoint": "ckpt.load_enable",
    "lora_alpha": "ds.lora.alpha",
    "lora_dropout": "ds.lora.dropout",
    "lora_rank": "ds.lora.rank",
    "max_ckpt_mem": "ckpt.max_mem",
    "max_ckpt_num": "ckpt.max_num",
    "micro_rollout_batch_size": "rollout.micro_batch_size",
    "micro_train_batch_size": "train.micro_batch_size",
    "no_advantage_std_norm": "algo.advantage.no_std_norm",
    "normalize_reward": "reward.normalize_enable",
    "partial_rollout": "train.partial_rollout_enable",
    "pretrain": "actor.model_name_or_path",
    "prompt_data": "data.prompt_dataset",
    "prompt_data_probs": "data.prompt_probs",
    "remote_rm_url": "reward.remote_url",
    "reward_pretrain": "reward.model_name_or_path",
    "ring_head_stride": "ds.ring_attn_head_stride",
    "save_hf_ckpt": "ckpt.save_hf",
    "save_path": "ckpt.output_dir",
    "target_modules": "ds.lora.target_modules",
    "use_ds_universal_ckpt": "ds.use_universal_ckpt",
    "use_dynamic_batch": "train.dynamic_batch_enable",
    "use_kl_loss": "algo.kl.use_loss",
    "use_tensorboard": "logger.tensorboard_dir",
    "use_wandb": "logger.wandb.key",
    "vllm_is_truncated_threshold": "algo.advantage.is_correction_threshold",
    "wandb_group": "logger.wandb.group",
    "wandb_org": "logger.wandb.org",
    "wandb_project": "logger.wandb.project",
    "wandb_run_name": "logger.wandb.run_name",
}
RENAMED = {
    **{name: f"{group}.{name}" for group, names in _MOVED.items() for name in names.split()},
    **{f"{group}_{name}": f"{group}.{name}" for group, names in _SPLIT.items() for name in names.split()},
    **_NEW,
}

_LEVEL, _MODE = "algo.advantage.is_correction_level", "algo.advantage.is_correction_mode"
_SCHEMES = {"tis": ("token", "clip"), "icepop": ("token", "mask"), "seq-mask-tis": ("seq", "mask")}
_ENABLE = ("algo.advantage.is_correction_enable", "enable_vllm_is_correction")
_TYPE = ("algo.advantage.is_correction_type", "vllm_is_correction_type")
# Flags whose values changed as well.
_REPLACED = {
    "bf16": "--ds.param_dtype bf16",
    "flash_attn": "--ds.attn_implementation flash_attention_2",
    "ref_reward_offload": "--ref.offload --reward.offload",
    "prompt_max_len": "--data.max_len (prompt and response together)",
}
GONE: tuple[str, ...] = (
    "actor_init_on_gpu",
    "perf",
    "torch_compile",
    "ptx_coef",
    "pretrain_data",
    "pretrain_data_probs",
)
GONE += ("pretrain_split",)


def refuse_old(given: Mapping[str, object]) -> None:
    """Raises UserError with today's command line for all flags of earlier versions among `given` (name -> value)."""
    old = [name for name in given if is_old(name) and name not in GONE]
    gone = [name for name in given if name in GONE]
    if not old and not gone:
        return
    parts = [f"for {', '.join(old)} give {' '.join(todays(given))}"] * bool(old)
    parts += [f"leave out {', '.join(gone)}, gone without a successor"] * bool(gone)
    raise UserError(f"OpenRLHF has renamed flags: {'; '.join(parts)}")


def is_old(name: str) -> bool:
    """Whether an earlier version had a flag of this name, and 0.11.2 has none."""
    return name in RENAMED or name in _REPLACED or name in (*_ENABLE, *_TYPE, *GONE)


def todays(given: Mapping[str, object]) -> list[str]:
    """What to give for the flags of earlier versions among `given`, as words of a command line."""
    new = _correction(given)
    new += [f"--{RENAMED[name]}{_written(value)}" for name, value in given.items() if name in RENAMED]
    return new + [_REPLACED[name] for name in given if name in _REPLACED]


def written_in(argv: Sequence[str]) -> dict[str, list[str]]:
    """Names and values of a command line, known or not: {"l2": ["0.01"], "bf16": []}."""
    found: dict[str, list[str]] = {}
    values: list[str] = []
    for token in argv:
        if token.startswith("--"):
            name, equals, inline = token[2:].partition("=")
            found[name] = values = [inline] if equals else []
        else:
            values.append(token)
    return found


def _correction(given: Mapping[str, object]) -> list[str]:
    """The scheme that 0.11.0's two flags chose, as 0.11.2 spells it."""
    chosen = next((_written(given[name]).strip() for name in _TYPE if name in given), "tis")  # its default
    if not any(name in given for name in (*_ENABLE, *_TYPE)) or chosen not in _SCHEMES:
        return []
    level, mode = _SCHEMES[chosen]
    return [f"--{_LEVEL} {level} --{_MODE} {mode}"]


def _written(value: object) -> str:
    """A value as it stands on a command line, with the space before it."""
    if value is True or value is None or value == []:
        return ""
    return " " + " ".join(map(str, value if isinstance(value, (list, tuple)) else [value]))
