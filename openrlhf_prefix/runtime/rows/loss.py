"""The loss that the flags describe, and what follows from it before a row is forwarded.

The controller asks which rows a term of the loss acts on, and whether the policy's log-probs before the update have to
be known; the learner computes the loss itself.
"""

import math
from dataclasses import replace
from types import SimpleNamespace

import torch
from openrlhf.trainer.ppo_utils.experience import Experience

from openrlhf_prefix.algorithm.hybrid import Correction, HybridLoss
from openrlhf_prefix.algorithm.imitation import needs_entropy
from openrlhf_prefix.runtime.rows.fields import contrast_of, prefix_mask_of, teacher_of
from openrlhf_prefix.settings.derived import contrasts

MIN_AUX_LOSS = 1e-8  # OpenRLHF computes the loss of a mixture's router from here on


def hybrid_loss(args: SimpleNamespace, supervised: bool = False) -> HybridLoss:
    """The loss that the (nested) flags describe, or that of a step on whole demonstrations alone."""
    low, high = args.actor.eps_clip_low_high if args.hybrid.clip else (1.0, math.inf)
    gate = args.algo.advantage
    correction = None
    if gate.is_correction_level != "off":
        correction = Correction(
            gate.is_correction_level, gate.is_correction_mode, gate.is_correction_gating, *gate.is_correction_threshold
        )
    loss = HybridLoss(
        policy=args.actor.policy_loss_type,
        divisor=args.hybrid.divisor,
        budget=args.rollout.max_new_tokens,
        clip_low=low,
        clip_high=high,
        dual_clip=args.actor.dual_clip if args.hybrid.clip else None,
        clip_prefix=args.hybrid.clip_prefix,
        imitation=args.hybrid.imitation,
        imitation_mean=args.hybrid.imitation_mean,
        convex=args.hybrid.convex,
        f_beta=args.hybrid.f_beta,
        sampled=args.hybrid.sampled,
        entropy_coef=args.actor.entropy_coef,
        kl_on_prefix=args.prefix.in_kl,
        entropy_on_prefix=args.prefix.in_entropy,
        correction=correction,
        teacher_clamp=args.teacher.clamp,
    )
    if not supervised:
        return loss
    imitation = {"imitation": args.hybrid.sft_imitation, "imitation_mean": "tokens", "convex": False}
    return replace(loss, **imitation, entropy_coef=None, correction=None)


def trained_tokens(row: Experience, loss: HybridLoss) -> int:
    """Action tokens of a row that the policy's, the imitation, the teacher's or the contrast term trains."""
    action = row.action_mask.bool()
    others = teacher_of(row), contrast_of(row)
    return int(loss.learns_from(action, prefix_mask_of(row), row.advantages, *others).sum())


def trains(tokens: int, args: SimpleNamespace) -> bool:
    """Whether a row with as many trained tokens has a gradient at all: the loss of a router, the entropy bonus and the
    KL loss have one on every row."""
    kl = args.algo.kl.use_loss and args.algo.kl.init_coef > 0
    return bool(tokens or kl or args.actor.entropy_coef or args.actor.aux_loss_coef > MIN_AUX_LOSS)


def on_policy(args: SimpleNamespace) -> bool:
    """Whether a rollout batch is one optimizer step, whose ratios to the policy before it are 1 by definition."""
    rows = args.rollout.batch_size * args.rollout.n_samples_per_prompt
    one_step = rows <= args.train.batch_size and args.train.max_epochs == 1 and args.hybrid.rescue != "buffer"
    return one_step and args.actor.old_log_probs == "auto"


def forwards_every_row(args: SimpleNamespace) -> bool:
    """Whether something reads the log-probs or entropies of every row before the update: ratios that are not 1
    (`on_policy`), a reference model, a correction, a row's entropy in the loss, or a contrast of rows."""
    of_rows = args.hybrid.sampled == "likelihood" or needs_entropy(args.hybrid.imitation) or contrasts(args)
    corrected = args.algo.advantage.is_correction_level != "off"
    return not on_policy(args) or args.algo.kl.init_coef > 0 or corrected or of_rows


def rows_to_forward(prefixed: torch.Tensor, args: SimpleNamespace) -> torch.Tensor:
    """(N,) rows that are forwarded before the update: all, or else the prefixed ones where the selection of prefix
    tokens has something to choose by their entropies.

    Args:
        prefixed: (N,) bool, rows that start from a prefix.
    """
    if forwards_every_row(args):
        return torch.ones_like(prefixed)
    return prefixed if 0 < args.prefix.keep < 1 else torch.zeros_like(prefixed)
