"""What a checkpoint must share with the run that resumes it, and what may change if it is said."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from openrlhf_prefix.checkpoint.identity import changes, dataset_fingerprint, refusal
from openrlhf_prefix.data.problems import Problem

FLAGS = {
    "actor.adam.lr": 1e-6,
    "actor.model_name_or_path": "/models/a",
    "algo.kl.init_coef": 0.0,
    "ckpt.save_steps": 10,
    "data.max_samples": 320,
    "rollout.batch_size": 16,
    "train.micro_batch_size": 4,
}


def facts(**changed: Any) -> dict[str, Any]:
    flags = {**FLAGS, **changed.pop("flags", {})}
    base = {"model": "m", "tokenizer": "t", "dataset": "d", "problems": 320, "ranks": 2, "zero_stage": 3}
    return {**base, "versions": {"vllm": "0.29.0"}, "flags": flags, **changed}


def test_the_same_run_goes_on_without_a_word() -> None:
    assert refusal(facts(), facts()) is None and changes(facts(), facts()) == []


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"model": "x"}, ["another model", "--actor.model_name_or_path"]),
        ({"tokenizer": "x"}, ["another tokenizer", "/models/a"]),
        ({"dataset": "x", "problems": 300}, ["another dataset", "320 problems then, 300 now"]),
        ({"ranks": 4}, ["2 ranks with ZeRO-3", "4 ranks with ZeRO-3", "openrlhf-prefix export"]),
        ({"zero_stage": 2}, ["2 ranks with ZeRO-3", "2 ranks with ZeRO-2"]),
        ({"flags": {"actor.adam.lr": 5e-7}}, ["actor.adam.lr was 1e-06 and is 5e-07", "give 1e-06"]),
        (
            {"flags": {"mask.method": "snip"}},
            ["mask.method was None and is snip", "the mask is part of the checkpoint"],
        ),
        ({"flags": {"rollout.batch_size": 32}}, ["rollout.batch_size was 16", "counted"]),
    ],
)
def test_what_cannot_go_on_is_refused_with_the_way_out(changed: dict[str, Any], words: list[str]) -> None:
    sentence = refusal(facts(), facts(**changed))
    assert sentence is not None and all(word in sentence for word in words), sentence


def test_a_refused_dataset_names_the_flag_that_changed_it() -> None:
    now = facts(dataset="x", problems=64, flags={"data.max_samples": 64})
    assert "(data.max_samples 320 -> 64)" in refusal(facts(), now)


def test_other_changes_are_said_and_the_places_of_things_are_not() -> None:
    now = facts(
        flags={"algo.kl.init_coef": 0.01, "ckpt.save_steps": 5, "train.micro_batch_size": 8, "run.dir": "/b"}
        | {"mask.method": None, "mask.file": "/b/keep.jsonl"},  # no mask, like a run that knew of none
        versions={"vllm": "0.30.0"},
    )
    assert refusal(facts(), now) is None
    assert changes(facts(), now) == [
        "algo.kl.init_coef 0.0 -> 0.01",
        "train.micro_batch_size 4 -> 8",
        "vllm 0.29.0 -> 0.30.0",
    ]


PROBLEM = Problem("p", "s", "7", np.arange(5, dtype=np.int32), (np.arange(4, dtype=np.int32),), (3,))


@pytest.mark.parametrize(
    "change",
    [
        {"id": "q"},
        {"source": "r"},
        {"answer": "8"},
        {"prompt_ids": np.array([0, 1, 2, 3, 5], dtype=np.int32)},
        {"demonstrations": (np.array([0, 1, 2, 4], dtype=np.int32),)},
        {"limits": (2,)},
        {"pass_rate": 0.0},
        # The same tokens, of which the prompt has one more and the demonstration one less.
        {
            "prompt_ids": np.array([0, 1, 2, 3, 4, 0], dtype=np.int32),
            "demonstrations": (np.arange(1, 4, dtype=np.int32),),
        },
    ],
)
def test_the_fingerprint_sees_every_part_of_a_problem(change: dict[str, Any]) -> None:
    changed = dataclasses.replace(PROBLEM, **change)
    assert dataset_fingerprint([PROBLEM]) == dataset_fingerprint([dataclasses.replace(PROBLEM)])
    assert dataset_fingerprint([PROBLEM]) != dataset_fingerprint([changed])
    other = dataclasses.replace(PROBLEM, id="z")
    assert dataset_fingerprint([PROBLEM, other]) != dataset_fingerprint([other, PROBLEM])
