"""Terms of the loss that would fail in a worker, inside OpenRLHF's PolicyLoss, or would do nothing."""

from openrlhf_prefix.algorithm.imitation import POLICY
from openrlhf_prefix.settings.checks.facts import Rule

TABLE: list[Rule] = [
    (
        lambda a: (
            a.gate.is_correction_mode == "clip"
            and (a.gate.is_correction_level == "seq" or a.gate.is_correction_gating != "ratio")
        ),
        "algo.advantage.is_correction_mode clip is for ratios of tokens: use is_correction_mode mask, or "
        "is_correction_level token with is_correction_gating ratio",
    ),
    (
        lambda a: (
            a.gate.is_correction_level != "off"
            and a.gate.is_correction_gating != "ratio"
            and a.gate.is_correction_threshold[0] > 0
        ),
        "algo.advantage.is_correction_gating {a.gate.is_correction_gating} is bounded from above alone: give "
        "is_correction_threshold one number",
    ),
    (
        lambda a: a.actor.dual_clip is not None and a.actor.dual_clip <= 1,
        "actor.dual_clip is {a.actor.dual_clip}: give a number above 1, or leave it out",
    ),
    (
        lambda a: a.actor.dual_clip is not None and not a.hybrid.clip,
        "actor.dual_clip has no effect with hybrid.clip false: leave one of them out",
    ),
    (
        lambda a: a.prefix.in_kl and not a.algo.kl.use_loss,
        "prefix.in_kl has no effect without algo.kl.use_loss: leave it out, or ask for a KL loss",
    ),
    (
        lambda a: a.prefix.in_entropy and a.actor.entropy_coef is None,
        "prefix.in_entropy has no effect without actor.entropy_coef: leave it out, or give one",
    ),
    (
        lambda a: a.hybrid.imitation == POLICY and a.hybrid.imitation_coef != 1 and not a.hybrid.sft_steps,
        "hybrid.imitation_coef has no effect with hybrid.imitation policy, whose prefix tokens train like sampled "
        "ones: leave it out, or choose another hybrid.imitation",
    ),
    (
        lambda a: a.actor.policy_loss_type != "ppo" and a.prefixed,
        "actor.policy_loss_type {a.actor.policy_loss_type} has no definition for prefix tokens: use ppo, or set "
        "prefix.prefixed_per_group to 0",
    ),
    (
        lambda a: a.actor.policy_loss_type == "gspo" and a.hybrid.divisor != "seq-mean",
        "actor.policy_loss_type gspo with hybrid.divisor {a.hybrid.divisor}: its ratio belongs to a row, so each row "
        "is averaged; set hybrid.divisor to seq-mean",
    ),
]
