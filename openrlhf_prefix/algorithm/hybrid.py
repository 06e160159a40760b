"""The loss of one micro-batch: every term over its own tokens, every divisor that of the whole optimizer step.

    loss = policy_coef * policy + imitation_coef * imitation + teacher_coef * teacher + contrast + kl_coef * KL
           - entropy_coef * entropy

    policy     sampled and selected prefix tokens (losses.py), weighted where engine and trainer differ (mismatch.py)
    imitation  prefix tokens, where they are not trained like sampled ones (imitation.py)
    teacher    sampled tokens that a teacher has judged (teacher.py), always a mean over these tokens
    contrast   rows that are pulled up or pushed down as a whole, each by a number with its divisor in it (contrast.py)
    KL         of the sampled tokens to the reference model; of prefix tokens too with `kl_on_prefix`
    entropy    of the sampled tokens; of prefix tokens too with `entropy_on_prefix`

A prefix token was written by the demonstrator: the engine never sampled it, and neither a pull towards the reference
nor a push for more entropy was meant for it. The losses of all micro-batches on all ranks add up to the loss of the
step, so that its gradient is the same for every split of the rows. Tokens outside a term's mask are replaced before
any exponential: an infinity there must not turn into 0 * inf.
"""

from dataclasses import dataclass

import torch

from openrlhf_prefix.algorithm.imitation import IMITATION, POLICY, Tokens, needs_advantage
from openrlhf_prefix.algorithm.losses import clipped_tokens, policy_loss_per_token, reduce_loss, sequence_log_ratio
from openrlhf_prefix.algorithm.mismatch import mismatch_weights
from openrlhf_prefix.algorithm.teacher import teacher_advantages


@dataclass(frozen=True)
class StepCounts:
    """Counts over the whole optimizer step and all ranks."""

    rows: float  # rows with an action token
    tokens: float  # action tokens: prefix and continuation
    sampled: float  # action tokens that the policy sampled
    trained: float | None = None  # of those rows, the ones that a term acts on; None: all
    taught: float = 0.0  # sampled tokens that the teacher acts on


@dataclass(frozen=True)
class LossRows:
    """The tensors of one micro-batch, (B, A) each. Gradients flow through log_probs, kl and entropy."""

    log_probs: torch.Tensor
    old_log_probs: torch.Tensor  # log_probs themselves where the rows are on-policy: ratios of 1
    advantages: torch.Tensor
    action_mask: torch.Tensor
    prefix_mask: torch.Tensor
    rollout_log_probs: torch.Tensor | None = None  # of the engine; needed by a mismatch correction
    kl: torch.Tensor | None = None  # to the reference model, per token; needed where kl_coef is not 0
    entropy: torch.Tensor | None = None  # of the policy; given where there is an entropy term, or a metric of it
    row_entropy: torch.Tensor | None = None  # (B, 1) mean over the row's action tokens before the update; for srft
    reference: torch.Tensor | None = None  # log-probs before the run; for the imitation rows f_...
    teacher: torch.Tensor | None = None  # log-probs by the teacher, NaN where it does not act; None: nowhere
    contrast: torch.Tensor | None = None  # (B, 1) c of every row, see contrast.py; None: of none

    def of_engine(self) -> torch.Tensor:
        """The engine's log-probs. ValueError where a correction asks for what the rollouts did not keep."""
        if self.rollout_log_probs is None:
            raise ValueError("a mismatch correction needs the rollout log-probs of every row")
        return self.rollout_log_probs


@dataclass(frozen=True)
class Correction:
    """Train/rollout mismatch correction, see mismatch.py."""

    level: str
    mode: str
    gating: str
    low: float
    high: float


Sums = dict[str, tuple[torch.Tensor, torch.Tensor]]  # metric -> numerator and denominator, both additive


@dataclass(frozen=True)
class HybridLoss:
    """Settings of the loss; calling it gives the loss of a micro-batch and the sums behind its metrics."""

    policy: str = "ppo"  # "ppo" clips tokens, "gspo" the rows' mean ratios
    divisor: str = "constant"  # losses.DIVISORS
    budget: int = 1  # tokens that a response may have; used by the divisor "constant"
    clip_low: float = 0.2
    clip_high: float = 0.2
    dual_clip: float | None = None
    clip_prefix: bool = True
    imitation: str = POLICY  # what prefix tokens train with: POLICY, or a row of imitation.IMITATION
    imitation_mean: str = "policy"  # "policy": one divisor for both terms; "tokens": each its own tokens
    convex: bool = False  # policy_coef = 1 - imitation_coef
    f_beta: float = 0.5  # of the imitation rows f_...
    sampled: str = "advantage"  # sampled tokens train with A r, or with A alone: "likelihood", "right"
    entropy_coef: float | None = None
    kl_on_prefix: bool = False
    entropy_on_prefix: bool = False
    correction: Correction | None = None
    teacher_clamp: float = 10.0  # of the teacher's advantage

    def __call__(
        self,
        rows: LossRows,
        counts: StepCounts,
        kl_coef: float = 0.0,
        imitation_coef: float = 1.0,
        teacher_coef: float = 0.0,
    ) -> tuple[torch.Tensor, Sums]:
        """This micro-batch's share of the loss of the step, and sums for metrics of the step.

        A micro-batch without a token of a term contributes a differentiable zero to it.
        """
        action = rows.action_mask.bool()
        sampled = action & ~rows.prefix_mask
        per_token, sums = self._policy(rows, action, sampled)
        apart = self.imitation != POLICY and self.imitation_mean == "tokens"
        mask, tokens = (sampled, counts.sampled) if apart else (action, counts.tokens)
        loss = self._reduce(per_token, mask, counts, tokens)
        rows_of_step = counts.rows if counts.trained is None else counts.trained
        share = action.any(-1).sum() / rows_of_step if rows_of_step else loss.new_ones(())  # of nothing: a loss of 0
        sums["policy_loss"] = (loss.detach(), share)
        if self.imitation != POLICY:
            imitation = self._imitation(rows, counts)
            sums["imitation_loss"] = (imitation.detach(), share)
            loss = (1.0 - imitation_coef if self.convex else 1.0) * loss + imitation_coef * imitation
        if rows.teacher is not None:
            teacher, of_teacher = self._teacher(rows, rows.teacher, counts)
            sums |= of_teacher | {"teacher/loss": (teacher.detach(), share)}
            loss = loss + teacher_coef * teacher
        if rows.contrast is not None:
            per_token = torch.where(action, rows.contrast * rows.log_probs, torch.zeros_like(rows.log_probs))
            loss = loss - per_token.sum()
        terms = (
            ("kl", rows.kl, kl_coef, self.kl_on_prefix),
            ("entropy_loss", rows.entropy, -(self.entropy_coef or 0.0), self.entropy_on_prefix),
        )
        for name, term, coef, on_prefix in terms:
            if term is not None:
                mask, tokens = (action, counts.tokens) if on_prefix else (sampled, counts.sampled)
                sums[name] = _sums(term, mask)
                loss = loss + coef * self._reduce(term, mask, counts, tokens)
        return loss, sums

    def learns_from(
        self,
        action: torch.Tensor,
        prefix: torch.Tensor,
        advantages: torch.Tensor,
        teacher: torch.Tensor | None = None,
        contrast: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Tokens on which the policy's, the imitation, the teacher's or the contrast term has a gradient.

        All arguments and the result are (B, A), but contrast (B, 1).

        KL and entropy act on every sampled token. Without them, a row with no such token adds nothing to the step but
        its place in the divisors, and need not be forwarded.
        """
        moved = action & (advantages != 0)
        if teacher is not None:
            moved = moved | taught(teacher, action, prefix)
        if contrast is not None:
            moved = moved | (action & (contrast != 0))
        return moved if needs_advantage(self.imitation) else moved | (action & prefix)

    def prefix_part(self, rows: LossRows, counts: StepCounts, imitation_coef: float = 1.0) -> torch.Tensor:
        """The loss of the prefix tokens alone, with the divisor of the whole: what they add to the gradient."""
        action = rows.action_mask.bool()
        if self.imitation != POLICY:
            return imitation_coef * self._imitation(rows, counts)
        per_token, _ = self._policy(rows, action, action & ~rows.prefix_mask)
        per_token = torch.where(rows.prefix_mask, per_token, torch.zeros_like(per_token))
        return self._reduce(per_token, action, counts, counts.tokens)

    def _imitation(self, rows: LossRows, counts: StepCounts) -> torch.Tensor:
        """The imitation term before its weight."""
        action = rows.action_mask.bool()
        prefix, zero = action & rows.prefix_mask, torch.zeros_like(rows.log_probs)
        log_probs, advantages = (torch.where(prefix, values, zero) for values in (rows.log_probs, rows.advantages))
        reference = None if rows.reference is None else torch.where(prefix, rows.reference, zero)
        entropy = zero if rows.row_entropy is None else rows.row_entropy
        tokens = Tokens(log_probs, advantages, entropy, reference, self.f_beta)
        per_token = torch.where(prefix, IMITATION[self.imitation](tokens), zero)
        if self.imitation_mean == "tokens":
            count = counts.tokens - counts.sampled
            return reduce_loss(per_token, prefix, "token-mean", count, counts.rows, self.budget)
        return self._reduce(per_token, action, counts, counts.tokens)

    def _teacher(self, rows: LossRows, log_probs: torch.Tensor, counts: StepCounts) -> tuple[torch.Tensor, Sums]:
        """The teacher's term before its weight, clipped and corrected like the policy's, and sums of its metrics."""
        action = rows.action_mask.bool()
        mask, zero = taught(log_probs, action, rows.prefix_mask), torch.zeros_like(rows.log_probs)
        new, old, teacher = (torch.where(mask, v, zero) for v in (rows.log_probs, rows.old_log_probs, log_probs))
        advantages, outside = teacher_advantages(teacher, old, self.teacher_clamp)
        per_token = policy_loss_per_token(
            new, old, advantages, rows.prefix_mask, self.clip_low, self.clip_high, self.dual_clip
        )
        if self.correction is not None:
            sampled = action & ~rows.prefix_mask
            before = torch.where(sampled, rows.old_log_probs, zero)
            per_token = per_token * mismatch_weights(before, rows.of_engine(), sampled, **vars(self.correction))[0]
        loss = reduce_loss(per_token, mask, "token-mean", counts.taught, counts.rows, self.budget)
        sums = {"teacher/kl": _sums(old - teacher, mask), "teacher/clamped": _sums(outside.float(), mask)}
        return loss, sums

    def _reduce(self, per_token: torch.Tensor, mask: torch.Tensor, counts: StepCounts, tokens: float) -> torch.Tensor:
        return reduce_loss(per_token, mask, self.divisor, tokens, counts.rows, self.budget)

    def _policy(self, rows: LossRows, action: torch.Tensor, sampled: torch.Tensor) -> tuple[torch.Tensor, Sums]:
        """(B, A) loss per token and the sums of its metrics."""
        zero = torch.zeros_like(rows.log_probs)
        log_probs, old = (torch.where(action, values, zero) for values in (rows.log_probs, rows.old_log_probs))
        advantages = torch.where(action, rows.advantages, zero)
        if self.imitation != POLICY:  # prefix tokens have a term of their own
            advantages = torch.where(sampled, advantages, zero)
        correction = self.correction
        if self.policy == "gspo":  # a ratio of rows; with a correction it is taken to the engine's probabilities
            behaviour = old if correction is None else torch.where(action, rows.of_engine(), zero)
            log_probs, old, correction = sequence_log_ratio(log_probs - behaviour, action), zero, None
        loss = policy_loss_per_token(
            log_probs,
            log_probs.detach() if self.sampled != "advantage" else old,  # a ratio of 1
            advantages,
            rows.prefix_mask,
            self.clip_low,
            self.clip_high,
            self.dual_clip,
            self.clip_prefix,
        )
        clipped = clipped_tokens(log_probs.detach(), old, advantages, self.clip_low, self.clip_high).float()
        trained = action & rows.prefix_mask & (advantages != 0)
        sums = {
            "ppo_clip_ratio": _sums(clipped, sampled),
            "ppo_kl": _sums(old - log_probs, sampled),
            "prefix/clip": _sums(clipped * self.clip_prefix, trained),
        }
        if correction is None:
            return loss, sums
        weights, outside = mismatch_weights(old, rows.of_engine(), sampled, **vars(correction))
        sums["vllm_kl"] = _sums(torch.where(sampled, rows.of_engine() - old, zero), sampled)
        sums["is_filter_ratio"] = _sums(outside.float(), sampled)
        return loss * weights, sums


def taught(teacher: torch.Tensor, action: torch.Tensor, prefix: torch.Tensor) -> torch.Tensor:
    """(B, A) sampled tokens that the teacher acts on; all arguments (B, A)."""
    return action & ~prefix & ~teacher.isnan()


def _sums(values: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    kept = torch.where(mask, values.detach(), torch.zeros_like(values))
    return kept.sum(), mask.sum()
