"""Solvers on entries written by hand, as reasoning-gym 0.1.25 writes them; the package is not needed."""

from typing import Any

import pytest

from openrlhf_prefix.data.gym.solvers import chain_sum, demonstration, holds
from openrlhf_prefix.data.tasks import Slip, habit

TERMS = {"a_knight": "a hero", "a_knave": "a villain"}


def entry(answer: str, **metadata: Any) -> dict[str, Any]:
    return {"question": "?", "answer": answer, "metadata": metadata}


def worked(task: str, answer: str, **metadata: Any) -> list[str]:
    found = demonstration(task, entry(answer, **metadata))
    assert found is not None
    return found.splitlines()


def test_a_sum_is_worked_from_the_left() -> None:
    lines = worked("chain_sum", "-4", expression="4 - 1 - 7")
    assert lines == ["4 - 1 = 3", "3 - 7 = -4", "\\boxed{-4}"]


def test_negative_terms_keep_their_sign() -> None:
    assert worked("chain_sum", "3", expression="-4 - -7") == ["-4 - -7 = 3", "\\boxed{3}"]


def test_a_sum_goes_on_from_a_mistake_to_a_wrong_answer() -> None:
    """4 - 1 = 3 written as 5, and 5 + 2 = 7; with the habit 4 - 1 = 4, and 4 + 2 = 6 without a difference to spoil."""
    problem = entry("5", expression="4 - 1 + 2")
    assert chain_sum(problem, Slip(0, 2)) == (["4 - 1 = 5", "5 + 2 = 7"], "7")
    assert chain_sum(problem, habit) == (["4 - 1 = 4", "4 + 2 = 6"], "6")


def test_countdown_works_out_brackets_and_products_first_and_fractions_exactly() -> None:
    lines = worked("countdown", "3*(8 - 2)/4", expression="3*(8 - 2)/4 - 1/2", target=4)
    assert lines[:-1] == ["8 - 2 = 6", "3 * 6 = 18", "18 / 4 = 9/2", "1 / 2 = 1/2", "9/2 - 1/2 = 4"]
    assert lines[-1] == "\\boxed{3*(8 - 2)/4 - 1/2}"


def test_countdown_may_begin_with_a_minus() -> None:
    assert worked("countdown", "-3 + 5*2", expression="-3 + 5*2", target=7)[:-1] == ["5 * 2 = 10", "-3 + 10 = 7"]


def test_euclid_divides_until_nothing_is_left() -> None:
    lines = worked("gcd", "6", numbers=[18, 48])
    assert lines == ["18 = 0 * 48 + 18", "48 = 2 * 18 + 12", "18 = 1 * 12 + 6", "12 = 2 * 6 + 0", "\\boxed{6}"]


def test_the_gcd_of_three_numbers_goes_on_with_that_of_two() -> None:
    assert worked("gcd", "2", numbers=[4, 8, 6])[2:] == [
        "4 = 0 * 6 + 4",
        "6 = 1 * 4 + 2",
        "4 = 2 * 2 + 0",
        "\\boxed{2}",
    ]


def test_letters_are_counted_in_either_case() -> None:
    lines = worked("letter_counting", "3", target_letter="n", span=["Nine", "to", "ten"])
    assert lines == ["Nine: 2, in all 2", "to: 0, in all 2", "ten: 1, in all 3", "\\boxed{3}"]


def test_a_word_is_spelt_from_its_end() -> None:
    assert worked("spell_backward", "nus", word="sun") == ["from the end: n, u, s", "\\boxed{nus}"]


@pytest.mark.parametrize("written", ["8", "8.0", " 8 "])
def test_a_story_ends_in_a_box_instead_of_its_mark(written: str) -> None:
    lines = worked("gsm_symbolic", "8", answer_cot=f"5 + 3 = 8\n\n  so 8.\n#### {written}")
    assert lines == ["5 + 3 = 8", "so 8.", "\\boxed{8}"]


def test_cases_are_tried_until_all_statements_fit() -> None:
    """Ann: "Bo lies." Bo: "Ann lies or Bo lies." Two cases fail, one at each of them; the third fits."""
    statements = [["lying", 1], ["or", ["lying", 0], ["lying", 1]]]
    answer = "Ann is a villain, and Bo is a hero."
    lines = worked("knights_knaves", answer, statements=statements, names=["Ann", "Bo"], knight_knave_terms=TERMS)
    assert lines == [
        "Suppose Ann is a hero, and Bo is a hero. What Ann says is false, but Ann is a hero: this fails.",
        "Suppose Ann is a hero, and Bo is a villain. What Ann says is true, and Ann is a hero. "
        "What Bo says is true, but Bo is a villain: this fails.",
        "Suppose Ann is a villain, and Bo is a hero. What Ann says is false, and Ann is a villain. "
        "What Bo says is true, and Bo is a hero. All fits.",
        "\\boxed{Ann is a villain, and Bo is a hero}",
    ]


@pytest.mark.parametrize(
    ("kind", "truths"),
    [
        ("and", [True, False, False, False]),
        ("or", [True, True, True, False]),
        ("->", [True, False, True, True]),
        ("<=>", [True, False, False, True]),
    ],
)
def test_statements_have_the_truth_tables_of_logic(kind: str, truths: list[bool]) -> None:
    cases = [(True, True), (True, False), (False, True), (False, False)]
    statement = [kind, ["telling-truth", 0], ["telling-truth", 1]]
    assert [holds(statement, case) for case in cases] == truths
    assert [holds(["not", statement], case) for case in cases] == [not truth for truth in truths]


@pytest.mark.parametrize(
    ("task", "metadata"),
    [
        ("chain_sum", {"expression": "1 + 1"}),
        ("countdown", {"expression": "1 + 1", "target": 3}),
        ("gcd", {"numbers": [4, 6]}),
        ("letter_counting", {"target_letter": "a", "span": ["aa"]}),
        ("spell_backward", {"word": "ab"}),
        ("gsm_symbolic", {"answer_cot": "2\n#### 2"}),
    ],
)
def test_steps_that_lead_elsewhere_are_no_demonstration(task: str, metadata: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="3"):
        demonstration(task, entry("3", **metadata))


def test_a_task_without_a_solver_has_no_demonstration() -> None:
    assert demonstration("zebra_puzzles", entry("bob")) is None
