"""What a user's reward may return, and what the sentence says when it is something else."""

import math

import pytest

from openrlhf_prefix.reward.function_worker import plain, reply_to, takes_responses
from openrlhf_prefix.reward.user_reward import RewardShape, UserReward, read_reward


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
