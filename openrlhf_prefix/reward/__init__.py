"""Rewards that can be checked: the boxed answer of a response against the gold answer, judged by math-verify."""

from openrlhf_prefix.reward.answer import extract_boxed
from openrlhf_prefix.reward.math import MathVerifier, Score

__all__ = ["MathVerifier", "Score", "extract_boxed"]
