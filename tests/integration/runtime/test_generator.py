"""From a problem to its rollout request: the prefix is the sampler's, and ends where the problem's limit says."""

from types import SimpleNamespace
from typing import Any

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
from openrlhf_prefix.runtime.controller import generator as module  # noqa: E402
from openrlhf_prefix.runtime.controller.generator import Evaluation, PrefixSamplesGenerator  # noqa: E402

GIVEN, LEARNT = (SimpleNamespace(irl=SimpleNamespace(lr=lr)) for lr in (0.0, 1.0))  # where rewards come from
PROMPT, DEMONSTRATION = np.arange(5), np.arange(100, 120)


@pytest.mark.parametrize(("limit", "length"), [(19, 18), (12, 12), (1, 1), (0, 0)])
def test_a_request_starts_from_the_tokens_before_the_limit(limit: int, length: int) -> None:
    """l = 0.9 of 20 tokens is 18, unless the limit is lower; the budget of 30 is shared with the prefix."""
    schedule = PrefixSchedule(low_start=0.9, low_end=0.9, high=0.9, shape="constant")
    maker = SimpleNamespace(sampler=PrefixSampler(schedule, group_size=2), budget=30, step=0, end=2, args=GIVEN)
    problem = Problem("p", "s", "7", PROMPT, (DEMONSTRATION[:3], DEMONSTRATION), (0, limit))
    plain, prefixed = (PrefixSamplesGenerator._request(maker, problem, slot, evaluating=False) for slot in range(2))
    assert (plain.prefix_ids, plain.max_tokens) == ([], 30)
    assert prefixed.prefix_ids == list(range(100, 100 + length))
    assert prefixed.max_tokens == 30 - length
    assert (plain.demonstration, prefixed.demonstration) == (-1, 1 if length else -1)
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
    maker = SimpleNamespace(sampler=sampler, budget=30, step=0, end=2, args=GIVEN)
    problem = Problem("p", "s", "7", PROMPT, (DEMONSTRATION,), (12,))
    plain, whole = (PrefixSamplesGenerator._request(maker, problem, slot, evaluating=False) for slot in range(2))
    assert whole.prefix_ids == [*range(100, 120), 2] and whole.max_tokens == 0 and whole.ratio == 1.0
    assert plain.prefix_ids == [] and plain.max_tokens == 30


def test_the_engines_are_asked_for_rewards_unless_they_are_learnt() -> None:
    maker = SimpleNamespace(sampler=PrefixSampler(PrefixSchedule(), group_size=2), budget=30, step=0, end=2)
    problem = Problem("p", "s", "7", PROMPT, ())
    for args, evaluating, judged in ((GIVEN, False, True), (LEARNT, False, False), (LEARNT, True, True)):
        maker.args = args
        assert PrefixSamplesGenerator._request(maker, problem, 0, evaluating).judged is judged


class Engines:
    """Two engines that answer at once; notes what each was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, list, Any]] = []

    def loads(self) -> list[int]:
        return [0, 3]

    def submit(self, groups: list, max_length: int) -> list:
        self.asked.append([(engine, [row.problem_id for row in rows], params) for engine, rows, params in groups])
        return [[{"row": row} for row in rows] for _, rows, _ in groups]

    def get(self, answer: list) -> list:
        return answer


def generator(monkeypatch: pytest.MonkeyPatch) -> tuple[PrefixSamplesGenerator, list]:
    """With two held-out problems; and what was done to the engines' sleep."""
    made = PrefixSamplesGenerator.__new__(PrefixSamplesGenerator)
    made.args = SimpleNamespace(
        rollout=SimpleNamespace(n_samples_per_prompt=4, stop_strings=None, stop_token_ids=[]),
        algo=SimpleNamespace(advantage=SimpleNamespace(is_correction_level="off")),
        train=SimpleNamespace(agent_func_path=None),
        data=SimpleNamespace(max_len=64),
        vllm=SimpleNamespace(enable_sleep=True),
        reward=SimpleNamespace(on_error="mask", error_limit=0.5),
        irl=GIVEN.irl,
    )
    made.sampler, made.budget, made.step, made.end = PrefixSampler(PrefixSchedule(), group_size=4), 30, 0, 2
    made.engines, made.failures, made.vllm_engines = Engines(), [{"problem": "p"}], []
    made.eval_dataloader = SimpleNamespace(problems=[Problem(name, "s", "7", PROMPT, (), ()) for name in "xy"])
    made._position, made.evaluation, slept = {}, None, []
    monkeypatch.setattr(module, "batch_vllm_engine_call", lambda engines, call: slept.append(call))

    def named(response: dict, **options: Any) -> tuple[str, float]:
        return response["row"].problem_id, options["temperature"]

    monkeypatch.setattr(PrefixSamplesGenerator, "_process_response_into_experience", staticmethod(named))
    return made, slept


def test_an_evaluation_is_asked_for_with_the_rollouts_and_as_its_own_flags_say(monkeypatch) -> None:
    """One call for each engine, so that it starts on both at once; the rollouts come first, and the answers are
    kept apart. Loads of 0 and 3 rows: groups of 4, 2 and 2 go to engine 0, 1 and 0."""
    made, slept = generator(monkeypatch)
    due = made.evaluation = Evaluation({"n_samples_per_prompt": 2, "temperature": 0.5, "top_p": 1.0})
    (answer,) = made._dispatch_prompts_to_vllm(
        [Problem("p", "s", "7", PROMPT, (), ())], ["7"], temperature=1.0, top_p=1.0
    )
    assert [row["row"].problem_id for row in answer] == ["p"] * 4
    ((first, second, third),) = made.engines.asked
    assert first[:2] == (0, ["p"] * 4) and second[:2] == (1, ["x"] * 2) and third[:2] == (0, ["y"] * 2)
    assert [group[2].temperature for group in (first, second, third)] == [1.0, 0.5, 0.5]
    made._dispatch_prompts_to_vllm([Problem("q", "s", "7", PROMPT, (), ())], ["7"], temperature=1.0, top_p=1.0)
    assert len(made.engines.asked[1]) == 1  # a replacement of dynamic filtering does not ask for it again
    made._collect()
    assert made.evaluated(due).samples == [("x", 0.5), ("x", 0.5), ("y", 0.5), ("y", 0.5)]
    assert made.failures == [{"problem": "p"}] and due.failures == [] and slept == []


def test_an_evaluation_without_rollouts_is_sampled_by_itself(monkeypatch) -> None:
    """After the last step, and before supervised ones."""
    made, slept = generator(monkeypatch)
    due = made.evaluation = Evaluation({"n_samples_per_prompt": 1, "temperature": 0.5, "top_p": 1.0})
    assert made.evaluated(due).samples == [("x", 0.5), ("y", 0.5)]
    assert made.evaluated(due).samples == [("x", 0.5), ("y", 0.5)]  # once
    assert len(made.engines.asked) == 1 and slept == ["wake_up", "sleep"]
