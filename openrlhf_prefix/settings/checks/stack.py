"""What DeepSpeed, OpenRLHF's agents and the trackers do not do with these flags."""

from openrlhf_prefix.settings.checks.facts import Rule
from openrlhf_prefix.settings.config import FROM_ENVIRONMENT
from openrlhf_prefix.settings.secrets import WANDB_KEY

TABLE: list[Rule] = [
    (
        lambda a: a.train.agent_func_path and a.prefixed,
        "train.agent_func_path starts every row from its prompt: use --hybrid.preset rft, or leave the agent out",
    ),
    (lambda a: a.ds.zero_stage not in (1, 2, 3), "ds.zero_stage is {a.ds.zero_stage}: choose 1, 2 or 3"),
    (
        lambda a: a.ds.zero_stage < 3 and a.ds.grad_accum_dtype == "fp32",
        "ds.grad_accum_dtype fp32 with ds.zero_stage {a.ds.zero_stage}: DeepSpeed 0.19.6 ignores it (stage 2), or "
        "takes another optimizer, whose gradients cannot be looked at (stage 1): use ds.zero_stage 3, or leave it out",
    ),
    (
        lambda a: a.actor.optim == "muon" and a.ds.enable_sleep and a.ds.zero_stage == 3,
        "actor.optim muon with ds.enable_sleep: at ds.zero_stage 3 DeepSpeed 0.19.6 puts no state but FusedAdam's on "
        "the host; leave ds.enable_sleep out, or use adam",
    ),
    (
        lambda a: a.ds.attn_implementation == "flash_attention_4",
        "ds.attn_implementation flash_attention_4: flash-attn-4 is a beta, whose gradients nobody has compared here "
        "(docs/00-install.md); use flash_attention_2, or sdpa",
    ),
    (
        lambda a: a.ds.param_dtype != "bf16",
        "ds.param_dtype is {a.ds.param_dtype}: OpenRLHF starts the engines in bf16, which cannot hold its weights; "
        "leave it at bf16",
    ),
    (
        lambda a: a.actor.fused_head == "on" and a.ds.use_liger_kernel,
        "actor.fused_head on with ds.use_liger_kernel, which brings a head of its own: leave one of them out",
    ),
    (
        lambda a: a.actor.fused_head == "on" and a.ds.lora.rank and "lm_head" in (a.ds.lora.target_modules or ()),
        "actor.fused_head on with an adapter on lm_head (ds.lora.target_modules), which needs the logits: leave one "
        "of them out",
    ),
    (
        lambda a: a.ds.load_in_4bit,
        "ds.load_in_4bit: the engines sample with bf16 weights, into which no adapter of 4-bit ones can be merged, "
        "and which cannot be compared with them; to save memory use ds.lora.rank, ds.zero_stage 3 or ds.adam_offload",
    ),
    (
        lambda a: a.logger.wandb.key == FROM_ENVIRONMENT and not a.in_environment(WANDB_KEY),
        f"logger.wandb.key {FROM_ENVIRONMENT}: {WANDB_KEY} is not set; export it",
    ),
]
