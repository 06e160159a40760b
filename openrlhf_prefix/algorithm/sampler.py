"""Which rows of a group start from a demonstration, and how much of it they get.

The last `prefixed_per_group` slots of a group are prefixed. Each draws a demonstration uniformly among those long
enough, a ratio l ~ U(low(t), high), and takes

    L = clamp(floor(l * |y*|), min_tokens, min(|y*| - 1, limit))

tokens of it: at least one token is always left to the policy, and what lies past the demonstration's limit (its final
answer: data/cuts.py) is never given away, while the ratio stays that of the whole demonstration. With |y*| = 20,
limit 15 and l = 0.9 the prefix has 15 tokens, not 18. Every draw is a pure function of
(seed, step, problem id, slot), through a hash: the same in any process, on any number of ranks, after any restart.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

from openrlhf_prefix.algorithm.lengths import Schedule, Settings
from openrlhf_prefix.algorithm.schedules import PrefixSchedule
from openrlhf_prefix.algorithm.trust import Trust


@dataclass(frozen=True)
class PrefixDraw:
    """What one slot starts from.

    Example: PrefixDraw(demonstration=1, length=30, ratio=0.304) gives the slot the first 30 tokens of demonstration 1.
    A slot that starts from the bare prompt is PrefixDraw(None, 0, 0.0).
    """

    demonstration: int | None
    length: int  # tokens
    ratio: float  # drawn share l of the demonstration, before rounding and clamping


EVALUATION = "evaluation"  # stands for the step in the seeds of held-out samples
PLAIN = PrefixDraw(demonstration=None, length=0, ratio=0.0)


def stable_bits(*key: object) -> bytes:
    """32 bytes that depend on `key` alone; Python's own hash changes with the process."""
    return hashlib.blake2b("\x1f".join(str(part) for part in key).encode(), digest_size=32).digest()


def draw_demonstration(seed: int, step: int, problem_id: str, count: int) -> int:
    """Which of the `count` demonstrations of a problem a step takes whole; the same for all of its rows."""
    return int(stable_uniform("demonstration", seed, step, problem_id, 0) * count)


def stable_uniform(*key: object) -> float:
    """A number in [0, 1) that depends on `key` alone, with the 53 bits of a float."""
    return (int.from_bytes(stable_bits(*key)[:8], "big") >> 11) * 2.0**-53


def request_seed(seed: int, step: int | str, problem_id: str, slot: int) -> int:
    """Sampling seed of one rollout request at a step (or EVALUATION), in [0, 2^31)."""
    return int.from_bytes(stable_bits("request", seed, step, problem_id, slot)[:4], "big") >> 1


@dataclass(frozen=True)
class PrefixSampler:
    """Draws the prefixes of a group.

    With `whole` a prefixed row is a demonstration from its first token to its last: its length is |y*|, whatever the
    schedule and the limits say, and nothing is left to the policy. `controller` takes the place of a uniform draw in
    the schedule's window, `trust` that of a uniform draw among the demonstrations.

    Raises:
        ValueError: group_size below 1, prefixed_per_group outside [0, group_size], min_tokens below 1.
    """

    schedule: PrefixSchedule
    group_size: int = 8
    prefixed_per_group: int = 1
    min_tokens: int = 1
    seed: int = 0
    whole: bool = False
    controller: Schedule | None = None
    trust: Trust | None = None

    def __post_init__(self) -> None:
        if self.group_size < 1:
            raise ValueError(f"group size is {self.group_size}: a group needs at least 1 row")
        if not 0 <= self.prefixed_per_group <= self.group_size:
            raise ValueError(
                f"prefix.prefixed_per_group = {self.prefixed_per_group} does not fit a group of {self.group_size} "
                f"rows (rollout.n_samples_per_prompt): choose 0 to {self.group_size}"
            )
        if self.min_tokens < 1:
            raise ValueError(f"prefix.min_tokens is {self.min_tokens}: a prefix has at least 1 token")

    def draw(
        self,
        step: int,
        problem_id: str,
        slot: int,
        demonstration_lengths: Sequence[int],
        limits: Sequence[int] | None = None,
    ) -> PrefixDraw:
        """The prefix of row `slot` of the group of `problem_id` at rollout step `step`.

        Args:
            demonstration_lengths: tokens of each demonstration of the problem; may be empty.
            limits: the most tokens that a prefix of each may have; None: all but the last one.

        Returns:
            PrefixDraw. Length 0 for a plain slot, and for a problem none of whose demonstrations has 2 tokens and a
            limit of 1 or more.

        Raises:
            ValueError: the slot is outside the group, or limits and lengths differ in number.
        """
        if not 0 <= slot < self.group_size:
            raise ValueError(f"slot {slot} is outside a group of {self.group_size} rows")
        most = [length - 1 for length in demonstration_lengths]
        if limits is not None and not self.whole:
            most = [min(bound, limit) for bound, limit in zip(most, limits, strict=True)]
        usable = [index for index, bound in enumerate(most) if bound >= 1]
        if slot < self.group_size - self.prefixed_per_group or not usable:
            return PLAIN
        controller = self.controller or Schedule(Settings(self.schedule))
        key, one = (self.seed, step, problem_id), controller.shared or controller.spread
        chosen: int | None = usable[int(stable_uniform("demonstration", *key, 0 if one else slot) * len(usable))]
        if self.trust:
            chosen = self.trust.draw(problem_id, usable, lambda name: stable_uniform(name, *key, 0 if one else slot))
        if chosen is None:
            return PLAIN
        total = demonstration_lengths[chosen]
        if self.whole:
            return PrefixDraw(demonstration=chosen, length=total, ratio=1.0)
        place = slot - (self.group_size - self.prefixed_per_group)

        def uniform(name: str) -> float:
            drawn = stable_uniform(name, *key, 0 if controller.shared else slot)
            return (place + drawn) / self.prefixed_per_group if controller.spread else drawn

        given = controller.ratio(step, problem_id, uniform)
        if given is None:
            return PLAIN
        tokens, ratio = (given, min(given / total, 1.0)) if controller.in_tokens else (given * total, given)
        length = min(max(math.floor(tokens), self.min_tokens), most[chosen])
        return PrefixDraw(demonstration=chosen, length=length, ratio=ratio)
