"""The policy loss per token, and the one place that reduces it.

With r = exp(log_probs - old_log_probs) and advantage A:

    clipped    -min(r A, clip(r, 1 - clip_low, 1 + clip_high) A)
    dual clip  for A < 0 the loss is at most -dual_clip A (arXiv 1912.09729)

Prefix tokens are treated alike, or left unclipped (-r A). Their old log-probs come from the policy itself, so that r
is 1 on the first update. Tokens that were not selected carry A = 0 and contribute nothing.

Divisors belong to the whole optimizer step over all ranks, so that the gradient is the same for every split of it:

    token-mean   all action tokens          seq-mean   rows, of each row's token mean
    constant     rows x budget              (Dr. GRPO, arXiv 2503.20783: no length in the divisor)
"""

import torch

DIVISORS = ("token-mean", "seq-mean", "constant")
SMALLEST_COUNT = 1e-6  # counts come divided by accumulated micro-batches, so a real one may be below 1
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


def clipped_tokens(
    log_probs: torch.Tensor, old_log_probs: torch.Tensor, advantages: torch.Tensor, clip_low: float, clip_high: float
) -> torch.Tensor:
    """(B, A) bool, true where the clip range cuts the surrogate and with it the gradient."""
    ratio = (log_probs - old_log_probs).exp()
    return torch.where(advantages > 0, ratio > 1 + clip_high, (advantages < 0) & (ratio < 1 - clip_low))


def reduce_loss(
    per_token: torch.Tensor,
    action_mask: torch.Tensor,
    divisor: str,
    num_tokens: torch.Tensor | float,
    num_rows: torch.Tensor | float,
    budget: int,
    dp_size: int = 1,
) -> torch.Tensor:
    """This micro-batch's share of the loss of the optimizer step, a scalar.

    Args:
        per_token, action_mask: (B, A).
        divisor: one of DIVISORS.
        num_tokens, num_rows: action tokens and rows of the whole optimizer step over all ranks (divided by the number
            of accumulated micro-batches where the engine divides every backward by it).
        budget: tokens that a response may have; used by "constant".
        dp_size: data-parallel ranks; undoes the engine's mean of gradients over ranks.

    A micro-batch, and a whole step, without action tokens gives a differentiable zero.
    """
    num_tokens, num_rows = (torch.as_tensor(count).clamp(min=SMALLEST_COUNT) for count in (num_tokens, num_rows))
    mask = action_mask.to(per_token.dtype)
    kept = torch.where(action_mask.bool(), per_token, torch.zeros_like(per_token))
    if divisor == "token-mean":
        return kept.sum() / num_tokens * dp_size
    if divisor == "seq-mean":
        return (kept.sum(-1) / mask.sum(-1).clamp(min=1)).sum() / num_rows * dp_size
    if divisor == "constant":
        return kept.sum() / (num_rows * budget) * dp_size
    raise ValueError(f"divisor is {divisor!r}: choose one of {', '.join(DIVISORS)}")
