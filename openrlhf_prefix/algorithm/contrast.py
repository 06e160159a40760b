"""A demonstration held against the policy's own samples of the same problem.

The gradient of every rule is a sum over rows of  c L,  L the row's sum of log-probs: up with the demonstration y*,
down with the own samples y_1 .. y_k. A rule is how c follows from L before the update and from L_0, the same under an
older policy. The c of a step are divided by its demonstrations: the learner has nothing to average.

    partition        loss = -L* + mean_j sg(e^(s_j - u)) L_j           s_j = L_j / tau - L_0j
    partition_mean   the same of means over the tokens of a row        s_j = L_j / tau
                     u <- log((1 - gamma) e^u + gamma mean_j e^s_j)    of the problem, from 0 on, at every visit
    pair             loss = mean_j -log sigma(beta m_j)                m_j = (L* - L_0*) - (L_j - L_0j)
    pair_wrong       the same, where a right sample has no part:       m_j = (L* - L_0*)

e^u follows the sum over all answers by which a likelihood among answers is divided: samples that are likely are pushed
down most. As u has s_j in it, a weight is at most k / gamma; one above the cap is cut, and counted. The gradient of a
pair is DPO's, -beta sigma(-beta m) (grad L* - grad L_j), with weights of 1/2 at the start of a stage. An own sample
that is the demonstration itself teaches nothing, is left out, and counted.

Sources: partition, discriminative fine-tuning (DFT, DFT2), arXiv 2502.18679; pair, IRFT, arXiv 2405.17888, and SPIN
2401.01335; pair_wrong is our form for answers with a verifier of SSPO, arXiv 2410.05255, whose text was not seen.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

NONE = "none"
PARTITIONS = ("partition", "partition_mean")
PAIRS = ("pair", "pair_wrong")
RULES = (NONE, *PARTITIONS, *PAIRS)


@dataclass(frozen=True)
class Groups:
    """A rollout batch, (G, N) each."""

    now: torch.Tensor  # L of the policy that is to be trained
    before: torch.Tensor  # L_0; not read by partition_mean
    tokens: torch.Tensor  # of the response
    demonstration: torch.Tensor  # bool, one row of a group at the most: y*
    valid: torch.Tensor  # bool, rows that count; others have c = 0
    right: torch.Tensor  # bool, own samples that the verifier found right
    equal: torch.Tensor  # bool, own samples that are the demonstration, token for token


def partition_weights(
    scores: torch.Tensor, before: float, gamma: float, cap: float
) -> tuple[torch.Tensor, float, torch.Tensor]:
    """e^(s_j - u) within the cap, the new u, and which weights were cut.

    Args:
        scores: (k,) s_j, k at least 1.
        before: u of the last visit; 0 at the first.
        gamma: weight of the new samples, in (0, 1].
        cap: the largest weight.
    """
    new = torch.logsumexp(scores.double(), 0) - math.log(len(scores)) + math.log(gamma)
    u = new if gamma == 1 else torch.logaddexp(new, new.new_tensor(before + math.log1p(-gamma)))
    excess = scores.double() - u
    return excess.clamp(max=math.log(cap)).exp(), float(u), excess > math.log(cap)


def pair_weights(margins: torch.Tensor, beta: float) -> torch.Tensor:
    """sigma(-beta m), in the shape of m."""
    return torch.sigmoid(-beta * margins)


class Contrast:
    """The rule of a run, with the u of every problem that it has visited.

    Args:
        rule: one of RULES but "none".
        tau, gamma, cap: of the partition; beta: of the pairs.
    """

    def __init__(self, rule: str, tau: float = 1.0, gamma: float = 0.85, cap: float = 10.0, beta: float = 0.1) -> None:
        self.rule, self.tau, self.gamma, self.cap, self.beta = rule, tau, gamma, cap, beta
        self.u: dict[str, float] = {}

    def coefficients(self, problems: Sequence[str], rows: Groups) -> tuple[torch.Tensor, dict[str, float]]:
        """c of every row, (G, N): the loss of the step is minus the sum of c times L; and metrics.

        Args:
            problems: (G,) their ids, in the order in which u is to hear of them.

        A group without a demonstration has c = 0, and so has one without an own sample under a pair.
        """
        found = torch.zeros_like(rows.now, dtype=torch.float64)
        log: dict[str, list[torch.Tensor]] = {}
        count = 0
        for group, problem in enumerate(problems):
            stars = (rows.demonstration & rows.valid)[group].nonzero().flatten()
            own = (~rows.demonstration & rows.valid)[group].nonzero().flatten()
            if not len(stars) or (self.rule in PAIRS and not len(own)):
                continue
            weigh = self._pairs if self.rule in PAIRS else self._partition
            one, metrics = weigh(problem, rows, group, stars[0], own)
            found[group], count = one, count + 1
            for name, values in metrics.items():
                log.setdefault(name, []).append(values.double().flatten())
        means = {f"contrast/{name}": torch.cat(values) for name, values in log.items()}
        shown = {name: float(values.mean()) for name, values in means.items() if values.numel()}
        return found / max(count, 1), shown | {"contrast/demonstrations": float(count)}

    def _partition(
        self, problem: str, rows: Groups, group: int, star: torch.Tensor, own: torch.Tensor
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        mean = self.rule == "partition_mean"
        lengths = rows.tokens[group].double().clamp(min=1) if mean else torch.ones(rows.now.shape[1]).double()
        now = rows.now[group].double() / lengths
        coefficients = torch.zeros_like(now)
        coefficients[star] = 1 / lengths[star]
        metrics: dict[str, torch.Tensor] = {}
        if len(own):
            scores = now[own] / self.tau - (0.0 if mean else rows.before[group, own].double())
            weights, u, cut = partition_weights(scores, self.u.get(problem, 0.0), self.gamma, self.cap)
            self.u[problem] = u
            coefficients[own] = -weights / len(own) / lengths[own]
            metrics = {"weight": weights, "capped": cut, "partition": now.new_tensor(u)}
        return coefficients, metrics | _nats(rows, group, star, own)

    def _pairs(
        self, problem: str, rows: Groups, group: int, star: torch.Tensor, own: torch.Tensor
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        gained = (rows.now[group] - rows.before[group]).double()
        held = ~rows.right[group, own] if self.rule == "pair_wrong" else torch.ones_like(own, dtype=torch.bool)
        margins = gained[star] - torch.where(held, gained[own], torch.zeros_like(gained[own]))
        equal = rows.equal[group, own] & held
        weights = torch.where(equal, torch.zeros_like(margins), pair_weights(margins, self.beta))
        coefficients = torch.zeros_like(gained)
        coefficients[star] = self.beta * weights.mean()
        coefficients[own] = -self.beta * weights * held / len(own)
        loss = -torch.nn.functional.logsigmoid(self.beta * margins)
        return coefficients, {"loss": loss, "margin": margins, "equal": equal, "left_out": ~held} | _nats(
            rows, group, star, own
        )

    def state_dict(self) -> dict[str, Any]:
        return {"u": dict(self.u)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.u = dict(state["u"])


def _nats(rows: Groups, group: int, star: torch.Tensor, own: torch.Tensor) -> dict[str, torch.Tensor]:
    """-log p of a token of the demonstration, and of the own samples: means of rows."""
    a_token = -rows.now[group].double() / rows.tokens[group].clamp(min=1)
    return {"nll": a_token[star], "sample_nll": a_token[own]}
