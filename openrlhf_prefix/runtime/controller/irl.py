"""The reward of a rollout batch, where it is learnt from demonstrations (algorithm/irl.py), before all advantages.

One pass of the policy over the batch brings the gradients of its pairs, a demonstration and the first own sample of
the same problem each, and the features of every last token. The head takes its step here, in the controller, and
scores all rows afterwards: its gradient is a sum of H numbers a pair in the order of the problems, which no number of
ranks, micro-batch or padding has a part in, and its state is w. The two rows of a pair share a forward batch.
"""

from types import SimpleNamespace
from typing import Any

import torch
from openrlhf.trainer.ppo_utils.experience import Experience

from openrlhf_prefix.algorithm.irl import Pair, RewardHead, first_difference
from openrlhf_prefix.errors import RunStopped
from openrlhf_prefix.settings.derived import learns_reward

Own = tuple[int, int]  # place of the own sample, and the first token in which the demonstration differs from it


class RewardLearning:
    """Of one run; it does nothing where rewards are given."""

    def __init__(self, args: SimpleNamespace) -> None:
        self.group = args.rollout.n_samples_per_prompt
        self.head = RewardHead(args.irl.lr) if learns_reward(args) else None

    def judge(self, samples: list[Experience], maker: Any) -> dict[str, float]:
        """Learns from the rows of a rollout batch, one by one in their places, and writes their rewards; metrics.

        Args:
            maker: the experience maker, which makes forward batches and deals them out.
        """
        if self.head is None:
            return {}
        pairs, equal = self._pairs(samples)
        units = [_view(row, place) for place, row in enumerate(samples)]
        # To the forward batches a pair is one row: without logits, two take less than one with them.
        for place, (own, _) in pairs.items():
            units[place] = Experience.concat_experiences([units[place], units[own]], maker.tokenizer.pad_token_id)
        taken = {own for own, _ in pairs.values()}
        batches = maker.split_rollout_samples([unit for place, unit in enumerate(units) if place not in taken])
        asked = [
            [(row, row + 1, pairs[place][1]) for row, place in enumerate(batch.index) if place in pairs]
            for batch in batches
        ]
        judged = maker.passes(batches, "judge", pairs=asked, weights=[self.head.weights] * len(batches))
        found = {
            batch.index[row]: pair
            for batch, places, one in zip(batches, asked, judged, strict=True)
            for (row, _, _), pair in zip(places, one.pairs, strict=True)
        }
        metrics = _learn(self.head, [found[place] for place in sorted(found)])
        for batch, one in zip(batches, judged, strict=True):
            for place, reward in zip(batch.index, self.head.rewards(one.last), strict=True):
                samples[place].rewards = samples[place].info["reward"] = reward.reshape(1)
        return {"irl/pairs": float(len(pairs)), "irl/equal": float(equal)} | metrics

    def _pairs(self, samples: list[Experience]) -> tuple[dict[int, Own], int]:
        """Place of a demonstration -> its own sample; and how many pairs were left out, as of equal texts."""
        pairs, equal = {}, 0
        for start in range(0, len(samples), self.group):
            places = range(start, start + self.group)
            star = next((place for place in places if int(samples[place].info["prefix_length"])), None)
            if star is None:  # a problem without a demonstration
                continue
            own = next(place for place in places if not int(samples[place].info["prefix_length"]))
            first = first_difference(*(_response(samples[place]) for place in (star, own)))
            if first is None:
                equal += 1
            else:
                pairs[star] = (own, first)
        return pairs, equal


def _learn(head: RewardHead, pairs: list[Pair]) -> dict[str, float]:
    """The step of the head, and what its pairs said before it."""
    if not pairs:
        return {}
    gradients = torch.stack([pair.gradient for pair in pairs])
    if wrong := int((~gradients.isfinite()).any(-1).sum()):
        raise RunStopped(
            f"the hidden states of {wrong} of {len(pairs)} demonstrations with their own samples are not finite: "
            "go back to a checkpoint with a lower actor.adam.lr in a new run"
        )
    head.learn(gradients)
    losses, margins = (torch.stack([pair[column] for pair in pairs]) for column in (0, 2))
    return {"irl/loss": losses.mean().item(), "irl/accuracy": (margins > 0).float().mean().item()}


def _response(row: Experience) -> list[int]:
    return row.sequences[0, 1:][row.action_mask[0].bool()].tolist()


def _view(row: Experience, place: int) -> Experience:
    """What a forward pass needs of a row."""
    return Experience(
        sequences=row.sequences,
        attention_mask=row.attention_mask,
        action_mask=row.action_mask,
        index=[place],
        info={"prefix_length": row.info["prefix_length"]},
    )
