"""What an evaluation came to, by hand."""

import json

import pytest

from openrlhf_prefix.errors import UserError
from openrlhf_prefix.evaluation.records import Verdict
from openrlhf_prefix.evaluation.results import line, newest, shares, task_result, with_means


def row(
    problem: str, *scores: int, reason: str = "different", finish: str = "stop", tokens: int = 10
) -> list[Verdict]:
    return [
        Verdict(problem, index, float(score), "equal" if score else reason, finish, tokens)
        for index, score in enumerate(scores)
    ]


def test_a_task_by_hand() -> None:
    """Shares 1/4, 0, 1: mean 5/12, s^2 = ((1/6)^2 + (5/12)^2 + (7/12)^2) / 2 = 39/144 ... error sqrt(s^2 / 3).
    pass@2: 1 - C(3,2)/C(4,2) = 1/2, 0, 1."""
    found = task_result([row("a", 1, 0, 0, 0), row("b", 0, 0, 0, 0), row("c", 1, 1, 1, 1)], [2])
    assert found["avg@4"] == found["pass@1"] == pytest.approx(5 / 12)
    variance = ((1 / 4 - 5 / 12) ** 2 + (5 / 12) ** 2 + (1 - 5 / 12) ** 2) / 2
    assert found["avg@4_stderr"] == pytest.approx((variance / 3) ** 0.5)
    assert found["pass@2"] == pytest.approx(0.5) and found["pass@2_stderr"] == pytest.approx((0.25 / 3) ** 0.5)
    assert (found["problems"], found["samples"]) == (3, 4)


def test_the_error_is_over_problems_not_samples() -> None:
    """32 samples of two problems, one always and one never solved: 1/2 +- sqrt(1/2) / sqrt(2) = 1/2, not 1/16."""
    found = task_result([row("a", *[1] * 32), row("b", *[0] * 32)], [32])
    assert (found["avg@32"], found["avg@32_stderr"], found["pass@32"]) == (0.5, pytest.approx(0.5), 0.5)


def test_shares_of_samples_that_went_wrong() -> None:
    found = task_result(
        [
            row("a", 0, 0, reason="no_answer", finish="length", tokens=30),
            row("b", 0, 1, reason="unparseable"),
            row("c", 0, 1, reason="timeout"),
            row("d", 0, 0),
        ],
        [1],
    )
    assert (found["truncated"], found["unparsed"], found["ungraded"]) == (2 / 8, 3 / 8, 1 / 8)
    assert found["tokens"] == 15


def test_one_sample_is_pass_at_1_and_one_problem_has_no_error() -> None:
    found = task_result([row("a", 1)], [1])
    assert found["pass@1"] == 1 and found["pass@1_stderr"] is None and "avg@1" not in found
    assert line({"math": found}) == "math pass@1 100.0%"


def test_the_line_has_every_task_and_the_columns() -> None:
    three = {name: task_result([row("a", 1), row("b", 0)], [1]) for name in ("arc_c", "gpqa", "mmlu_pro")}
    whole = with_means(three)
    assert whole["mean of three"]["mean"] == 0.5
    assert whole["mean of three"]["stderr"] == pytest.approx((3 * 0.25) ** 0.5 / 3)
    assert line(whole).endswith("| mmlu_pro pass@1 50.0% +-50.0 | mean of three 50.0% +-28.9")


FILE = {
    "config_general": {"tasks": {"t": {"samples": 4}}},
    "results": {},
    "problems": {"t": {"a": 1, "b": 4}},
}


def test_the_newest_results_of_a_folder_are_read(tmp_path) -> None:
    for name in ("results_2026-01-02T03-04-05.json", "results_2025-12-31T23-59-59.json"):
        (tmp_path / name).write_text(json.dumps({**FILE, "results": {"name": name}}))
    assert newest(tmp_path)["results"]["name"] == "results_2026-01-02T03-04-05.json"
    assert newest(tmp_path / "results_2025-12-31T23-59-59.json")["results"]["name"].startswith("results_2025")
    assert shares(newest(tmp_path)) == {"t": {"a": 0.25, "b": 1.0}}


@pytest.mark.parametrize(("text", "said"), [("[]", "no object"), ("{", "cannot be read"), ("{}", "config_general")])
def test_what_is_no_file_of_results_is_a_sentence(tmp_path, text: str, said: str) -> None:
    (tmp_path / "results_x.json").write_text(text)
    with pytest.raises(UserError, match=said):
        newest(tmp_path)


def test_a_folder_without_results_is_a_sentence(tmp_path) -> None:
    with pytest.raises(UserError, match="holds no results"):
        newest(tmp_path)
