"""Known ways in which a run goes wrong are said in words, with their numbers; a healthy run says nothing."""

import re
from pathlib import Path

import pytest

from openrlhf_prefix.report.cautions import cautions
from openrlhf_prefix.report.reading import Run

HEALTHY = {
    "reward": 0.4,
    "reward/plain": 0.35,
    "reward/prefixed": 0.9,
    "rollout/entropy": 0.6,
    "rollout/truncated_rate": 0.02,
    "rollout/equal_groups": 0.3,
    "rollout/num_samples": 128.0,
    "train/tokens": 900.0,
    "prefix/rows": 16.0,
    "prefix/solves_alone": 0.0,
    "prefix/reward_0_0.25": 0.4,
    "prefix/reward_0.75_1": 0.95,
    "rollout/log_prob_difference": 0.01,
    "sync/tensors_unchecked": 0.0,
}


def said(*changes: dict, steps: int = 12) -> dict[str, str]:
    """Titles and texts, for steps that differ from healthy ones by these; the last of `changes` holds to the end."""
    every = [*changes, *[changes[-1]] * (steps - len(changes))]
    rows = [{"step": step, **HEALTHY, **change} for step, change in enumerate(every, 1)]
    run = Run("a", Path("a"), {}, {}, {}, rows, [], [])
    return {one["title"]: one["text"] for one in cautions(run)}


def test_a_healthy_run_says_nothing() -> None:
    assert said({}) == {}
    assert cautions(Run("a", Path("a"), {}, {}, {}, [], [], [])) == []


@pytest.mark.parametrize(
    ("change", "title", "words"),
    [
        (
            {"train/tokens": 0.0, "reward": 0.0},
            "Nothing to train on",
            "Up to step 3: 3 steps in a row.*12 of 12 steps",
        ),
        ({"rollout/truncated_rate": 0.4}, "Responses are truncated", "40% of the rows.*--rollout.max_new_tokens"),
        ({"rollout/entropy": 0.01}, "Entropy has collapsed", "0.010 nats.*plain rows earn 0.35.*--actor.adam.lr"),
        ({"rollout/entropy": None, "entropy_loss": 0.02}, "Entropy has collapsed", "0.020 nats"),
        ({"prefix/solves_alone": 0.25}, "The prefix solves it alone", "At step 1: 4 of 16 prefixes"),
        ({"prefix/reward_0_0.25": 0.95}, "The prefix solves it alone", "shortest prefixes earn 0.95"),
        ({"rollout/log_prob_difference": 0.2}, "Engine and trainer differ", "0.20 nats apart.*doctor"),
        ({"sync/tensors_unchecked": 3.0}, "Engine and trainer differ", "3 weights have no counterpart"),
        ({"rollout/equal_groups": 0.8}, "Few rows have a gradient", "80% of the rows"),
        ({"reward/failed": 1.0, "skipped_steps": 0.0}, "Things failed on the way", "^12 rewards failed [^;]*$"),
    ],
)
def test_each_way_is_found_by_itself(change: dict, title: str, words: str) -> None:
    found = said(change)
    assert list(found) == [title]
    assert re.search(words, found[title]), found[title]


def test_success_is_no_collapse() -> None:
    """Low entropy beside high reward is what a trained policy has."""
    assert said({"rollout/entropy": 0.01, "reward/plain": 0.9}) == {}


def test_truncation_that_rose_has_another_cause() -> None:
    assert "It rose from" in said(*[{}] * 10, {"rollout/truncated_rate": 0.9}, steps=20)["Responses are truncated"]


def test_the_beginning_is_forgotten_where_the_end_is_healthy() -> None:
    """The last ten steps are what "now" means; steps without a signal are told whenever they were."""
    early = [{"rollout/truncated_rate": 0.9, "rollout/entropy": 0.0}] * 5
    assert said(*early, {}, steps=30) == {}
    assert "3 of 30 steps had none" in said(*[{"train/tokens": 0.0}] * 3, {}, steps=30)["Nothing to train on"]
