"""What a demonstration's tokens are trained with.

Every method's gradient is a sum of c_t * grad log p_t over tokens, so that they differ on demonstration tokens in c_t
alone (p the policy's probability of the token, A the row's advantage, r the ratio to the probability before the
update, H the mean entropy of the row's tokens before the update; sg stops the gradient):

    policy   A r, clipped       like sampled tokens (losses.py)      Prefix-RFT, arXiv 2507.01679
    nll      1                  -log p                               supervised fine-tuning
    dft      p                  -sg(p) log p                         dynamic fine-tuning, arXiv 2508.05629
    phi      p (1 - p)          -sg(p (1 - p)) log p                 CHORD-phi, arXiv 2508.11408
    trust    min(1, p / alpha)  -sg(min(1, p / alpha)) log p         TRAPO, arXiv 2512.17636 (alpha 0.1)
    luffy    A g p / (p + g)^2  -A p / (p + g)                       LUFFY, arXiv 2504.14945 (g 0.1)
    srft     0.5 e^-H + luffy's -0.5 e^-H log p - A p / (p + g)      SRFT, arXiv 2506.19767

With r = beta (log p - log p_ref), p_ref the probability before the run (beta: hybrid.f_beta, 0.5), imitation as the
search for a reward with an f-divergence between the policies: c = phi'(r), which is 1 at r = 0, so that a run begins
as plain likelihood. Tokens that were pulled up lose weight, those that fell gain; tv alone has no such restraint and
is nll. Derived after arXiv 2507.00018, with the phi of inverse reinforcement learning; its own table was not seen.

    f_tv         1                       phi = r
    f_pearson    1 - r / 2               phi = r - r^2 / 4         r at most 2
    f_hellinger  1 / (1 + r)^2           phi = r / (1 + r)         r at least -0.9
    f_js         e^-r / (2 - e^-r)       phi = log(2 - e^-r)       r at least -0.6
    f_kl         e^-r                    phi = -e^-r               c at most 10

A method from outside the package adds a row to IMITATION; a bare function is a row that trains every token.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch

ALPHA = 0.1  # below it, trust falls off with p
GAMMA = 0.1  # where luffy's weight is highest: 0.25 A at p = g, against 0.083 A at p = 1
SRFT_SUPERVISED = 0.5


@dataclass(frozen=True)
class Tokens:
    """Demonstration tokens of a micro-batch, (B, A) each, entropy (B, A) or (B, 1). Only log_probs has a gradient."""

    log_probs: torch.Tensor
    advantages: torch.Tensor
    entropy: torch.Tensor  # mean over the tokens of the row, before the update
    reference: torch.Tensor | None = None  # (B, A) log-probs before the run, for the rows that need them
    beta: float = 0.5


Loss = Callable[[Tokens], torch.Tensor]  # -> loss per token, (B, A)


@dataclass(frozen=True)
class Imitation:
    """A row of the table; called like its loss."""

    loss: Loss
    needs_advantage: bool = False  # c_t has A as a factor: a token whose row has none does not train
    needs_entropy: bool = False  # c_t has H in it, which only rows that were forwarded before the update have
    needs_reference: bool = False  # c_t has the probability before the run in it: a frozen model is kept for that
    objective: Callable[[torch.Tensor], torch.Tensor] | None = None  # of log p: has the gradient, and a value to watch

    def __call__(self, tokens: Tokens) -> torch.Tensor:
        return self.loss(tokens)


def _weighted(weight: Callable[[torch.Tensor], torch.Tensor], objective: Callable | None = None) -> Imitation:
    """-sg(weight(p)) log p."""
    return Imitation(lambda tokens: -weight(tokens.log_probs.detach().exp()) * tokens.log_probs, objective=objective)


def _divergence(slope: Callable[[torch.Tensor], torch.Tensor]) -> Imitation:
    """-sg(phi'(r)) log p."""

    def loss(tokens: Tokens) -> torch.Tensor:
        if tokens.reference is None:
            raise ValueError("this imitation term needs the reference's log-probs of every demonstration token")
        return -slope(tokens.beta * (tokens.log_probs.detach() - tokens.reference)) * tokens.log_probs

    return Imitation(loss, needs_reference=True)


def _luffy(tokens: Tokens) -> torch.Tensor:
    p = tokens.log_probs.exp()
    return -tokens.advantages * p / (p + GAMMA)


def _trust_objective(log_probs: torch.Tensor) -> torch.Tensor:
    """-p / alpha below alpha, and from there on -log p, shifted so that they meet."""
    share = log_probs.exp() / ALPHA
    return torch.where(share < 1, -share, -1 - share.log())


def _srft(tokens: Tokens) -> torch.Tensor:
    return -SRFT_SUPERVISED * (-tokens.entropy).exp() * tokens.log_probs + _luffy(tokens)


# "policy" has no entry: it is the clipped surrogate.
IMITATION: dict[str, Imitation | Loss] = {
    "nll": _weighted(torch.ones_like, torch.neg),
    "dft": _weighted(lambda p: p, lambda log_probs: -log_probs.exp()),
    "phi": _weighted(lambda p: p * (1 - p), lambda log_probs: (2 * log_probs).exp() / 2 - log_probs.exp()),
    "trust": _weighted(lambda p: (p / ALPHA).clamp(max=1.0), _trust_objective),
    "luffy": Imitation(_luffy, needs_advantage=True),
    "srft": Imitation(_srft, needs_entropy=True),
    "f_tv": _weighted(torch.ones_like, torch.neg),
    "f_pearson": _divergence(lambda r: (1 - r / 2).clamp(min=0.0)),
    "f_hellinger": _divergence(lambda r: (1 + r.clamp(min=-0.9)) ** -2),
    "f_js": _divergence(lambda r: 1 / (2 * r.clamp(min=-0.6).exp() - 1)),
    "f_kl": _divergence(lambda r: (-r).exp().clamp(max=10.0)),
}
POLICY = "policy"


def needs_advantage(name: str) -> bool:
    """Whether demonstration tokens train only where they have an advantage; else all of them do."""
    row = None if name == POLICY else IMITATION[name]
    return row is None or (isinstance(row, Imitation) and row.needs_advantage)


def needs_entropy(name: str) -> bool:
    """Whether demonstration tokens are weighted by the policy's entropy on their row."""
    row = IMITATION.get(name)
    return isinstance(row, Imitation) and row.needs_entropy


def needs_reference(name: str) -> bool:
    """Whether demonstration tokens are weighted by their probability before the run."""
    row = IMITATION.get(name)
    return isinstance(row, Imitation) and row.needs_reference


def trains_unseen(name: str) -> bool:
    """Whether a demonstration can train with it that no group holds and no model has seen before the update."""
    return not (needs_advantage(name) or needs_entropy(name) or needs_reference(name))


def watched(name: str, log_probs: torch.Tensor) -> torch.Tensor:
    """What a validation follows of a row: its own objective, or -log p for one that has none.

    The value of a loss whose weight is held fixed says nothing: -sg(p) log p falls towards p = 0 as well.
    """
    row = IMITATION[name]
    objective = row.objective if isinstance(row, Imitation) else None
    return objective(log_probs) if objective else -log_probs
