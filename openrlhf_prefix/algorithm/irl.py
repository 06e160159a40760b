"""A reward that is learnt from demonstrations, for problems without a verifier: linear in the policy's hidden states.

    x_t    the last hidden state at token t of a response, of length 1, without a gradient to the policy
    r_t    w . x_t; the reward of a response is r at its last token
    pair   a demonstration y* and an own sample y~ of the same problem:

    loss   mean over t of -log sigma(r*_t - r~_t), t from the first token in which they differ to the end of the longer
           one; after the end of the shorter one its last reward stands
    step   w <- w - lr dloss/dw, loss the mean over the pairs of a step;  w = 0 before the first

Two features differ by 2 at the most, so that the loss is 1-smooth in w: a step with lr 1 never makes it larger on the
pairs that it is from. While rewards are small, w is what the features of demonstrations have above those of samples,
added up over the steps; groups are normalised, and its scale does not matter to the policy. Explicit form (RFT) of
arXiv 2405.17888, whose reward model trains all of its weights.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch.nn.functional import logsigmoid, normalize


class Pair(NamedTuple):
    """What a demonstration and an own sample say, by the weights before the step."""

    loss: torch.Tensor  # ()
    gradient: torch.Tensor  # (H,) of the loss in w
    margin: torch.Tensor  # (), reward of the demonstration less the own sample's


def features(hidden: torch.Tensor) -> torch.Tensor:
    """(T, H) x, in fp32, of the hidden states of T tokens."""
    return normalize(hidden.float(), dim=-1)


def first_difference(one: Sequence[int], other: Sequence[int]) -> int | None:
    """The first place in which two texts differ: 2 for (5, 6, 7) and (5, 6), which has nothing there; None for equal
    ones."""
    places = (place for place, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1])
    return next(places, None if len(one) == len(other) else min(len(one), len(other)))


def compare(star: torch.Tensor, own: torch.Tensor, first: int, weights: torch.Tensor) -> Pair:
    """The loss of a pair of different texts and its gradient.

    Args:
        star, own: (T*, H) and (T~, H) features of the demonstration's tokens and of the own sample's.
        first: the first place in which they differ, below the larger of T* and T~.
        weights: (H,) w.
    """
    places = torch.arange(first, max(len(star), len(own)), device=star.device)
    difference = _at(star, places) - _at(own, places)
    margins = difference @ weights
    gradient = -(torch.sigmoid(-margins).unsqueeze(-1) * difference).mean(0)
    return Pair(-logsigmoid(margins).mean(), gradient, margins[-1])


def _at(one: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Its features at these places; from its end on, those of its last token."""
    return one[places.clamp(max=len(one) - 1)]


class RewardHead:
    """w and its steps, as a Stateful of the controller's checkpoint."""

    def __init__(self, lr: float) -> None:
        self.lr = lr
        self.weights: torch.Tensor | None = None  # (H,) fp32; None before the first pair

    def learn(self, gradients: torch.Tensor) -> None:
        """One step by the (P, H) gradients of a step's pairs, P > 0, in the order of their problems."""
        before = torch.zeros(gradients.shape[1]) if self.weights is None else self.weights
        self.weights = (before.double() - self.lr * gradients.double().mean(0)).float()

    def rewards(self, last: torch.Tensor) -> torch.Tensor:
        """(B,) by the (B, H) features of the responses' last tokens."""
        return torch.zeros(len(last)) if self.weights is None else last @ self.weights

    def state_dict(self) -> dict[str, Any]:
        return {"weights": self.weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.weights = state["weights"]
