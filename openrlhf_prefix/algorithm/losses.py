"""The policy loss per token, and the one place that reduces it.

With r = exp(log_probs - old_log_probs) and advantage A:

    clipped    -min(r A, clip(r, 1 - clip_low, 1 + clip_high) A)
    dual clip  for A < 0 the loss is at most -dual_clip A (arXiv 1912.09729)

Prefix tokens are treated alike, or left unclipped (-r A). Their old log-probs come from the policy itself, so that r
is 1 on the first update. Tokens that were not selected carry A = 0 and contribute nothing.

Divisors belong to the whole optimizer step over all ranks, so that the gradient is the same for every split of it:

    token-mean   all tokens of the term     seq-mean   rows, of each row's token mean
    constant     rows x budget              (Dr. GRPO, arXiv 2503.20783: no length in the divisor)
"""

import torch

DIVISORS = ("token-mean", "seq-mean", "constant")
MAX_LOG_RATIO = 20.0  # exp stays finite in fp32, and so does its gradient


def policy_loss_per_token(
    log_probs: torch.Tensor,
    old_log_probs: torch.Tensor,
    advantages: torch.Tensor,
    prefix_mask: torch.Tensor,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    dual_clip: float | None = None,
    clip_prefix: bool = True,
) -> torch.Tensor:
    """Per-token loss, all arguments and the result (B, A). Gradient flows through `log_probs` only.

    Args:
        clip_prefix: false leaves prefix tokens unclipped: -r A, without dual clip.
    """
    ratio = (log_probs - old_log_probs).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp()
    unclipped = ratio * advantages
    surrogate = torch.min(unclipped, ratio.clamp(1 - clip_low, 1 + clip_high) * advantages)
    if dual_clip is not None:
        surrogate = torch.where(advantages < 0, torch.max(surrogate, dual_clip * advantages), surrogate)
    if not clip_prefix:
        surrogate = torch.where(prefix_mask.bool(), unclipped, surrogate)
    return -surrogate


def sequence_log_ratio(log_ratio: torch.Tensor, action_mask: torch.Tensor) -> torch.Tensor:
    """(B, A) mean log-ratio of each row, at its action tokens: GSPO's ratio of rows (arXiv 2507.18071)."""
    mask = action_mask.bool()
    mean = torch.where(mask, log_ratio, torch.zeros_like(log_ratio)).sum(-1, keepdim=True)
    return mean / mask.sum(-1, keepdim=True).clamp(min=1) * mask


def clipped_tokens(
    log_probs: torch.Tensor, old_log_probs: torch.Tensor, advantages: torch.Tensor, clip_low: float, clip_high: float
) -> torch.Tensor:
    """(B, A) bool, true where the clip range cuts the surrogate and with it the gradient."""
    ratio = (log_probs - old_log_probs).exp()
    return torch.where(advantages > 0, ratio > 1 + clip_high, (advantages < 0) & (ratio < 1 - clip_low))


def reduce_loss(
    per_token: torch.Tensor,
    mask: torch.Tensor,
    divisor: str,
    num_tokens: float,
    num_rows: float,
    budget: int,
) -> torch.Tensor:
    """This micro-batch's share of the loss of the optimizer step, a scalar.

    Args:
        per_token: (B, A).
        mask: (B, A), the tokens of this term.
        divisor: one of DIVISORS.
        num_tokens, num_rows: the term's tokens, and the rows, of the whole optimizer step over all ranks.
        budget: tokens that a response may have; used by "constant".

    A micro-batch, and a whole step, without a token gives a differentiable zero.
    """
    num_tokens, num_rows = max(float(num_tokens), 1.0), max(float(num_rows), 1.0)
    mask = mask.bool()
    kept = torch.where(mask, per_token, torch.zeros_like(per_token))
    if divisor == "token-mean":
        return kept.sum() / num_tokens
    if divisor == "seq-mean":
        return (kept.sum(-1) / mask.sum(-1).clamp(min=1)).sum() / num_rows
    if divisor == "constant":
        return kept.sum() / (num_rows * budget)
    raise ValueError(f"divisor is {divisor!r}: choose one of {', '.join(DIVISORS)}")
