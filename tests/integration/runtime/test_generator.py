"""From a problem to its rollout request: the prefix is the sampler's, and ends where the problem's limit says."""

from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("openrlhf")
pytest.importorskip("vllm")

from openrlhf_prefix.runtime.platform import adapter  # noqa: E402

adapter.choose().install()

from vllm import SamplingParams  # noqa: E402
from vllm.sampling_params import RequestOutputKind  # noqa: E402

from openrlhf_prefix.algorithm.sampler import PrefixSampler  # noqa: E402
from openrlhf_prefix.algorithm.schedules import PrefixSchedule  # noqa: E402
from openrlhf_prefix.data.problems import Problem  # noqa: E402
from openrlhf_prefix.runtime.controller.generator import PrefixSamplesGenerator  # noqa: E402

PROMPT, DEMONSTRATION = np.arange(5), np.arange(100, 120)


@pytest.mark.parametrize(("limit", "length"), [(19, 18), (12, 12), (1, 1), (0, 0)])
def test_a_request_starts_from_the_tokens_before_the_limit(limit: int, length: int) -> None:
    """l = 0.9 of 20 tokens is 18, unless the limit is lower; the budget of 30 is shared with the prefix."""
    schedule = PrefixSchedule(low_start=0.9, low_end=0.9, high=0.9, shape="constant")
    maker = SimpleNamespace(sampler=PrefixSampler(schedule, group_size=2), budget=30, step=0, end=2)
    problem = Problem("p", "s", "7", PROMPT, (DEMONSTRATION,), (limit,))
    plain, prefixed = (PrefixSamplesGenerator._request(maker, problem, slot, evaluating=False) for slot in range(2))
    assert (plain.prefix_ids, plain.max_tokens) == ([], 30)
    assert prefixed.prefix_ids == list(range(100, 100 + length))
    assert prefixed.max_tokens == 30 - length
    assert not PrefixSamplesGenerator._request(maker, problem, 1, evaluating=True).prefix_ids


def params_of(stops: list[str] | None = None, agent: str | None = None) -> SamplingParams:
    rollout = SimpleNamespace(stop_strings=stops, stop_token_ids=[7])
    algo = SimpleNamespace(advantage=SimpleNamespace(is_correction_level="off"))
    args = SimpleNamespace(rollout=rollout, algo=algo, train=SimpleNamespace(agent_func_path=agent))
    maker = SimpleNamespace(budget=30, args=args)
    return PrefixSamplesGenerator._sampling_params(maker, {"temperature": 1.0, "top_p": 1.0})


def test_stops_reach_the_engine() -> None:
    params = params_of(["\n\n", "Question:"])
    assert params.stop == ["\n\n", "Question:"] and params.stop_token_ids == [7]
    assert params.include_stop_str_in_output  # what the policy wrote is trained, the stop included


def test_the_engine_answers_once_a_row_and_makes_text_only_where_it_is_read() -> None:
    assert params_of().output_kind is RequestOutputKind.FINAL_ONLY
    assert not params_of().detokenize
    assert params_of(["stop"]).detokenize and params_of(agent="agent.py").detokenize


def test_a_whole_demonstration_ends_with_the_stop_id_and_asks_for_nothing() -> None:
    sampler = PrefixSampler(PrefixSchedule(), group_size=2, whole=True)
    maker = SimpleNamespace(sampler=sampler, budget=30, step=0, end=2)
    problem = Problem("p", "s", "7", PROMPT, (DEMONSTRATION,), (12,))
    plain, whole = (PrefixSamplesGenerator._request(maker, problem, slot, evaluating=False) for slot in range(2))
    assert whole.prefix_ids == [*range(100, 120), 2] and whole.max_tokens == 0 and whole.ratio == 1.0
    assert plain.prefix_ids == [] and plain.max_tokens == 30
