"""Which prefix tokens train.

Prefix tokens are unlikely under the policy and dominate the gradient (5-10 % of the tokens, about twice the gradient
norm). Only the share `keep` with the highest entropy of the policy keeps its advantage: exactly ceil(keep * n) of n.

The ranking runs over the whole rollout batch (scope "batch") or within each row (scope "sequence"). The official code
ranks per micro-batch, so its result moves with the micro-batch size; ours does not.
Source: arXiv 2507.01679, section 3.3 and appendix A.2.
"""

import math

import torch

SCOPES = ("batch", "sequence")


def select_prefix_tokens(
    entropy: torch.Tensor, prefix_mask: torch.Tensor, keep: float = 0.2, scope: str = "batch"
) -> torch.Tensor:
    """Mask of the prefix tokens that keep their advantage.

    Args:
        entropy: (B, A) entropy of the policy at each action token; read on prefix tokens only.
        prefix_mask: (B, A) true on prefix tokens.
        keep: share to keep, in [0, 1].
        scope: "batch" ranks all prefix tokens together, "sequence" ranks each row by itself.

    Returns:
        (B, A) bool, a subset of prefix_mask with ceil(keep * n) tokens per ranking. Ties go to the earlier row, then
        the earlier token. No prefix token anywhere gives an all-false mask.
    """
    if not 0.0 <= keep <= 1.0:
        raise ValueError(f"prefix.keep is {keep}: a share lies in [0, 1]")
    if scope not in SCOPES:
        raise ValueError(f"prefix.scope is {scope!r}: choose one of {', '.join(SCOPES)}")
    prefix_mask = prefix_mask.bool()
    if scope == "sequence":
        return _keep_highest(entropy, prefix_mask, keep)
    return _keep_highest(entropy.reshape(1, -1), prefix_mask.reshape(1, -1), keep).reshape(prefix_mask.shape)


def _keep_highest(entropy: torch.Tensor, mask: torch.Tensor, keep: float) -> torch.Tensor:
    """(R, T) mask of the ceil(keep * n_r) highest entries of every row r among its n_r masked ones."""
    # Masked entries sort last whatever they hold; the stable sort makes ties deterministic.
    order = torch.where(mask, entropy.float(), -torch.inf).argsort(dim=-1, descending=True, stable=True)
    # A product such as 0.07 * 100 = 7.000000000000001 must not round up to 8.
    counts = torch.tensor([math.ceil(keep * n - 1e-9) for n in mask.sum(-1).tolist()], device=mask.device)
    ranks = torch.arange(mask.shape[-1], device=mask.device)
    return torch.zeros_like(mask).scatter(-1, order, ranks < counts.unsqueeze(-1)) & mask
