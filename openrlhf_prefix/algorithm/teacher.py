"""The teacher's term: distillation on the tokens that the policy itself has sampled.

    d_t  = log pi_T(y_t | context, y_<t) - log pi(y_t | x, y_<t)        within [-clamp, clamp], no gradient through it
    loss = -(sum over taught tokens of min(r d, clip(r) d)) / (taught tokens of the optimizer step)

d stands where an advantage stands, and r is the ratio to the policy before the update. For a token that was drawn from
pi, E[d grad log pi] = -grad KL(pi || pi_T): one sample of the gradient of the reverse KL at each place, without what a
token does to the places after it. The context of the teacher is the prompt, or a prompt that shows a demonstration.

`instead`: rows that are taught have no reward advantage. With A the advantage, c = 1 for a right row, C = 1 where all
of a group are wrong and b the term's weight, the flags give

    on all, instead     d              OPD           on wrong, instead    c A + (1 - c) d     SRPO
    on all              A + b d        KDRL          on failed            A + C b d           HDPO

Sources: OPD, OPD-then-RL, KDRL and SRPO as compared in arXiv 2609.04108; HDPO arXiv 2603.23871. A teacher and a base
student end their answers differently: the token that ends one is never taught (2609.04108).
"""

import torch

ON = ("all", "wrong", "failed")
CONTEXTS = ("plain", "demonstration")
SELF = "self"  # the policy is its own teacher, in another context


def teacher_advantages(
    teacher: torch.Tensor, old_log_probs: torch.Tensor, clamp: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """d of every token, and whether it lies outside the clamp; all three tensors (B, A)."""
    difference = (teacher - old_log_probs).detach()
    return difference.clamp(-clamp, clamp), difference.abs() > clamp


def taught_rows(rewards: torch.Tensor, valid: torch.Tensor, on: str, gate: int = 0) -> torch.Tensor:
    """(G, N) rows that the teacher acts on.

    Args:
        rewards: (G, N); right is a reward above 0.
        valid: (G, N) false for rows whose reward is unknown: they are never taught.
        on: one of ON.
        gate: right rows up to which a group has failed.
    """
    right = (rewards > 0) & valid
    if on == "wrong":
        return valid & ~right
    if on == "failed":
        return valid & (right.sum(-1, keepdim=True) <= gate)
    if on == "all":
        return valid
    raise ValueError(f"on is {on!r}: choose one of {', '.join(ON)}")
