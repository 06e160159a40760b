"""Solvers on entries written by hand, as reasoning-gym 0.1.25 writes them; the package is not needed."""

from fractions import Fraction
from random import Random
from typing import Any

import pytest

from openrlhf_prefix.data.gym.solvers import chain_sum, countdown, demonstration, holds, knights_knaves, mistaken
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


def test_a_countdown_with_a_mistake_takes_another_sign_and_boxes_what_it_took() -> None:
    """7 * 5 - 1 = 34: the first step added gives 12 - 1; with the habit the difference becomes a sum."""
    problem = entry("7*5 - 1", expression="7*5 - 1", target=34)
    assert countdown(problem, Slip(0, 1)) == (["7 + 5 = 12", "12 - 1 = 11"], "7 + 5 - 1")
    assert countdown(problem, habit) == (["7 * 5 = 35", "35 + 1 = 36"], "7 * 5 + 1")
    assert countdown(problem) == (["7 * 5 = 35", "35 - 1 = 34"], "7*5 - 1")


def test_a_mistake_never_divides_by_zero() -> None:
    """6 / (4 - 2 + 2) with 4 - 2 - 2 = 0: the quotient becomes a product."""
    problem = entry("?", expression="6/(4 - 2 + 2)", target=Fraction(3, 2))
    assert countdown(problem, Slip(1, 1))[0] == ["4 - 2 = 2", "2 - 2 = 0", "6 * 0 = 0"]


def test_a_slip_is_chosen_that_ends_in_a_wrong_answer() -> None:
    """6 * 2 / 1: to multiply by 1 instead of dividing by it would change nothing, and is passed over."""
    problem = entry("6*2/1", expression="6*2/1", target=12)
    for seed in range(30):
        last = mistaken("countdown", problem, Random(seed), systematic=False).splitlines()[-2]
        assert last.rpartition("= ")[2] != "12"


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


def test_three_people_are_named_as_reasoning_gym_names_them() -> None:
    statements = [["lying", 1], ["lying", 2], ["telling-truth", 2]]
    answer = "Ann is a hero, Bo is a villain, and Cy is a hero."
    people = {"names": ["Ann", "Bo", "Cy"], "knight_knave_terms": TERMS}
    lines = worked("knights_knaves", answer, statements=statements, **people)
    assert lines[-1] == "\\boxed{Ann is a hero, Bo is a villain, and Cy is a hero}"


def test_an_island_with_a_mistake_is_judged_wrong_and_the_last_case_is_what_remains() -> None:
    """Ann: "Bo lies." Bo: "Ann and I are of one kind." Right: Ann is a hero, Bo a villain (the second case).

    A slip in it rejects it; the third fails of itself, as Ann's words are true in it and false of a villain. With the
    habit, villains are taken at their word: what Bo says is false, so that the second case fails as well.
    """
    statements = [["lying", 1], ["<=>", ["telling-truth", 0], ["telling-truth", 1]]]
    people = {"names": ["Ann", "Bo"], "knight_knave_terms": TERMS}
    problem = entry("Ann is a hero, and Bo is a villain.", statements=statements, **people)
    steps, answer = knights_knaves(problem, Slip(1, 5))
    assert steps[1].endswith("What Ann says is false, but Ann is a hero: this fails.")
    assert answer == "Ann is a villain, and Bo is a villain" and steps[-1] == f"So {answer}."
    steps, answer = knights_knaves(problem, habit)
    assert steps[1].endswith("What Bo says is true, but Bo is a villain: this fails.")
    assert answer == "Ann is a villain, and Bo is a villain"


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
