"""A step that trains on nothing says so; three in a row name the likely cause."""

import pytest

from openrlhf_prefix.report.lines import step_line
from openrlhf_prefix.report.signal import Silence, words

SILENT = {"train/tokens": 0.0, "rollout/num_samples": 32.0, "rollout/equal_groups": 1.0, "reward": 0.0}
MUTE = SILENT | {"verifier/no_answer": 30.0, "verifier/unparseable": 2.0}
NOTHING = "no group with a signal: nothing to train on"


def test_a_healthy_step_says_nothing() -> None:
    assert words({"train/tokens": 512.0, "rollout/num_samples": 32.0, "verifier/no_answer": 16.0}) == []
    assert words({}) == []


def test_what_a_silent_step_says() -> None:
    assert words(MUTE) == ["32 of 32 without an answer", NOTHING]
    assert words(SILENT) == [NOTHING]
    assert step_line(1, 3, MUTE).endswith(f" | 32 of 32 without an answer | {NOTHING}")


def test_imitation_that_goes_on_is_told_from_nothing() -> None:
    assert words(SILENT | {"train/tokens": 40.0}) == ["every group agrees: demonstrations alone train"]


def test_three_in_a_row_and_no_fewer() -> None:
    silence = Silence()
    said = [silence.after(SILENT | {"train/tokens": tokens}) for tokens in (0.0, 0.0, 9.0, 0.0, 0.0, 0.0, 0.0)]
    assert [text is not None for text in said] == [False, False, False, False, False, True, False]


@pytest.mark.parametrize(
    ("metrics", "mend"),
    [
        (MUTE, "--verifier.fallback last_number"),
        (MUTE | {"rollout/truncated_rate": 0.9}, "--rollout.max_new_tokens"),
        (SILENT | {"reward": 1.0}, "too easy"),
        (SILENT | {"reward": 0.1, "reward/plain": 0.0, "reward/prefixed": 1.0}, "--prefix.prefixed_per_group"),
        (SILENT, "too hard"),
        (SILENT | {"reward": 0.5}, "rewards do not differ within a group"),
    ],
)
def test_the_likely_cause_follows_from_the_numbers(metrics: dict, mend: str) -> None:
    silence = Silence()
    text = [silence.after(metrics) for _ in range(3)][-1]
    assert text is not None and mend in text and "data check" in text


def test_a_supervised_step_is_not_silent() -> None:
    """It has no groups, and its metrics no such count."""
    silence = Silence()
    assert [silence.after({"sft/rows": 8.0}) for _ in range(4)] == [None] * 4
