"""What a user's reward may return, and what the sentence says when it is something else."""

import math
from pathlib import Path

import pytest

from openrlhf_prefix.reward.function_worker import load_function, plain, reply_to, takes_responses
from openrlhf_prefix.reward.user_reward import RewardShape, UserReward, binds_reward_func, read_reward


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"rewards": 1}, UserReward(1.0, 1.0)),
        ({"rewards": [0.5], "scores": [1]}, UserReward(0.5, 1.0)),
        ({"rewards": True, "extra_logs": {"format": [0.25]}}, UserReward(1.0, 1.0, {"format": 0.25})),
        ({"rewards": [[2.0]], "scores": None, "extra_logs": None}, UserReward(2.0, 2.0)),
    ],
)
def test_what_is_understood(value: object, expected: UserReward) -> None:
    assert read_reward(value) == expected


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (None, "the reward is None (NoneType): expected {'rewards': number}"),
        ([1.0], "the reward is [1.0] (list)"),
        ({"reward": 1.0}, "has the keys ['reward'] and no 'rewards'"),
        ({"rewards": [1.0, 0.0]}, "'rewards' has 2 values for one sample"),
        ({"rewards": []}, "'rewards' has 0 values"),
        ({"rewards": "1"}, "'rewards' is '1' (str), not a finite number"),
        ({"rewards": math.nan}, "'rewards' is nan (float), not a finite number"),
        ({"rewards": 1, "scores": "high"}, "'scores' is 'high' (str)"),
        ({"rewards": 1, "extra_logs": [1]}, "'extra_logs' is [1] (list), not a dictionary"),
        ({"rewards": 1, "extra_logs": {"length": "long"}}, "'extra_logs.length' is 'long' (str)"),
    ],
)
def test_what_is_not(value: object, sentence: str) -> None:
    with pytest.raises(RewardShape) as caught:
        read_reward(value)
    assert sentence in str(caught.value)


REQUEST = {"query": "2+2=4", "prompt": "2+2=", "label": "4", "response": "4"}


def test_a_function_gets_lists_of_one_and_the_response_if_it_asks() -> None:
    def as_in_openrlhf(queries, prompts, labels):
        return {"rewards": [queries, prompts, labels]}

    def with_response(queries, prompts, labels, responses):
        return {"rewards": float(responses == labels)}

    assert reply_to(REQUEST, as_in_openrlhf, False) == {"value": {"rewards": [["2+2=4"], ["2+2="], ["4"]]}}
    assert reply_to(REQUEST, with_response, True) == {"value": {"rewards": 1.0}}
    assert not takes_responses(as_in_openrlhf) and takes_responses(with_response)
    assert takes_responses(lambda queries, prompts, labels, **rest: None)


def test_what_the_function_raises_comes_back_with_its_last_lines() -> None:
    reply = reply_to(REQUEST, lambda queries, prompts, labels: 1 / 0, False)
    assert reply["error"].startswith("ZeroDivisionError: division by zero\n") and "1 / 0" in reply["error"]


def test_tensors_become_lists_and_strangers_their_repr() -> None:
    class Tensor:
        def tolist(self):
            return [1.0]

    assert plain({"rewards": Tensor(), 3: (1, 2)}) == {"rewards": [1.0], "3": [1, 2]}
    assert plain({"rewards": object}) == {"rewards": "<class 'object'>"}


BODY = "(queries, prompts, labels):\n    return {'rewards': 1.0}\n"
OBJECT = "class Reward:\n    def __call__(self, queries, prompts, labels, responses):\n        "
OBJECT += "return {'rewards': 1.0}\n"


@pytest.mark.parametrize(
    ("source", "with_response"),
    [
        ("def reward_func" + BODY, False),
        ("from helper import reward_func\n", False),
        ("from helper import score as reward_func\n", False),
        ("from helper import *\n", False),
        ("import helper\nreward_func = helper.score\n", False),
        (OBJECT + "reward_func: object = Reward()\n", True),
        ("from functools import partial\nfrom helper import score\nreward_func = partial(score)\n", False),
        (
            "try:\n    from nothing import reward_func\nexcept ImportError:\n    from helper import reward_func\n",
            False,
        ),
    ],
)
def test_a_file_may_define_import_or_assign_its_function_or_make_it_an_object(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, with_response: bool
) -> None:
    assert binds_reward_func(source)
    helper, path = tmp_path / "helper.py", tmp_path / "reward.py"
    helper.write_text(f"def score{BODY}\ndef reward_func{BODY}")
    path.write_text(source)
    monkeypatch.setattr("sys.path", [str(tmp_path), *__import__("sys").path])
    function = load_function(path)
    assert takes_responses(function) is with_response
    assert reply_to(REQUEST, function, with_response) == {"value": {"rewards": 1.0}}


@pytest.mark.parametrize(
    "source",
    ["", "x = 1\n", "def score(): pass\n", "class A:\n    def reward_func(self): pass\n", "import reward_func.a\n"],
)
def test_a_file_without_the_name_is_noticed(source: str) -> None:
    assert not binds_reward_func(source)


def test_a_name_that_cannot_be_called_ends_the_process_with_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "reward.py"
    path.write_text("reward_func = 3\n")
    with pytest.raises(SystemExit, match="has no reward_func.* that can be called"):
        load_function(path)
