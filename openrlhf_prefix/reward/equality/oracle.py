"""What comparing asks about values, and how to combine answers of which some may be unknown."""

from collections.abc import Callable
from fractions import Fraction
from typing import Protocol

from openrlhf_prefix.reward.equality.exact import Undecided
from openrlhf_prefix.reward.equality.realsets import Piece
from openrlhf_prefix.reward.grammar.cursor import Node


class Oracle(Protocol):
    """What is known of values. Every method may raise Undecided."""

    def values(self, gold: Node, answer: Node) -> bool: ...

    def position(self, node: Node) -> Fraction: ...

    def ratio_sign(self, gold: Node, answer: Node) -> int: ...  # of gold / answer where that is constant, else 0

    def same_equation(self, gold: Node, answer: Node) -> bool: ...

    def solve(self, relation: Node, name: str) -> list[Piece]: ...


def either(*options: Callable[[], bool]) -> bool:
    """True if any is; what is undecided matters only when none is."""
    doubt = None
    for option in options:
        try:
            if option():
                return True
        except Undecided as undecided:
            doubt = undecided
    if doubt:
        raise doubt
    return False


def every(*conditions: Callable[[], bool]) -> bool:
    """False if any is; what is undecided matters only when none is."""
    doubt = None
    for condition in conditions:
        try:
            if not condition():
                return False
        except Undecided as undecided:
            doubt = undecided
    if doubt:
        raise doubt
    return True
