"""A place in a list of tokens, and what is needed to move on from it."""

from collections.abc import Sequence
from typing import Any

from openrlhf_prefix.reward.grammar.tokens import END, Token, Unreadable

Node = tuple[Any, ...]


class Cursor:
    """Tokens and the place `at` in them, with what is open around it: bars, braces, brackets."""

    def __init__(self, tokens: Sequence[Token]) -> None:
        self.tokens, self.at, self.bars, self.braces, self.depth = tokens, 0, 0, 0, 0

    def peek(self, ahead: int = 0) -> Token:
        return self.tokens[self.at + ahead] if self.at + ahead < len(self.tokens) else END

    def is_next(self, kind: str, *texts: str) -> bool:
        token = self.peek()
        return token.kind == kind and token.text in texts

    def take(self, kind: str, *texts: str) -> Token:
        if not self.is_next(kind, *texts):
            raise Unreadable(f"{' or '.join(texts)} expected, {self.peek().text!r} found")
        self.at += 1
        return self.tokens[self.at - 1]


def join(kind: str, nodes: list[Node]) -> Node:
    """One node for several; one alone is itself."""
    return nodes[0] if len(nodes) == 1 else (kind, *nodes)
