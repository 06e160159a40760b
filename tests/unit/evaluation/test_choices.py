"""Multiple choice: options as LUFFY's files of ARC-c and GPQA write them, shuffled; letters as models write them."""

import hashlib
from collections import Counter

import pytest

from openrlhf_prefix.evaluation import choices

ARC = "An astronomer observes a planet. Which?\n\nA) Density falls.\nB) Years grow.\nC) Days shrink.\nD) It stops.\n"
GPQA = (
    "Answer with 'ANSWER: $LETTER' where LETTER is one of ABCD.\n\n(B) 1. is a list\n\n"
    "A) 10^-4 eV\nB) 10^-11 eV\nC) 10^-8 eV\n\nD) 10^-9 eV"
)


def texts(question: str) -> dict[str, str]:
    """Label -> text."""
    found = choices.find(question)
    assert found is not None
    return {label: question[start:end] for label, (start, end) in zip(found.labels, found.spans, strict=True)}


def test_options_are_found_at_the_end() -> None:
    assert texts(ARC) == {"A": "Density falls.", "B": "Years grow.", "C": "Days shrink.", "D": "It stops."}
    assert texts(GPQA) == {"A": "10^-4 eV", "B": "10^-11 eV", "C": "10^-8 eV", "D": "10^-9 eV"}
    assert texts("Which?\n\n1) red\n2) blue\n3) green\n") == {"1": "red", "2": "blue", "3": "green"}
    assert texts("Which route?\nA) 1. NaNH2\n2. Li\nB) 1. Zn\n2. HCl") == {
        "A": "1. NaNH2\n2. Li",
        "B": "1. Zn\n2. HCl",
    }
    assert choices.find("What is 1+2?") is None and choices.find("A) only one") is None


@pytest.mark.parametrize(("question", "gold"), [(ARC, "C"), (GPQA, "A")])
def test_the_gold_moves_with_its_text_and_nothing_else_changes(question: str, gold: str) -> None:
    new, label = choices.shuffled(question, gold)
    assert texts(new)[label] == texts(question)[gold]
    assert sorted(texts(new).values()) == sorted(texts(question).values())
    blank = [new, question]
    for text in texts(question).values():
        blank = [part.replace(text, "_") for part in blank]
    assert blank[0] == blank[1]  # labels, space and the question itself


def test_the_order_is_that_of_this_question_on_every_machine() -> None:
    """By the 32-byte BLAKE2b of "option", question and place: a change would part new results from old ones."""
    keys = [hashlib.blake2b(f"option\x1f{ARC}\x1f{place}".encode(), digest_size=32).digest() for place in range(4)]
    order = sorted(range(4), key=keys.__getitem__)
    new, label = choices.shuffled(ARC, "C")
    assert list(texts(new).values()) == [list(texts(ARC).values())[place] for place in order]
    assert label == "ABCD"[order.index(2)]


def test_golds_come_to_stand_everywhere_alike() -> None:
    """4,000 questions: each of four places has 1,000 with a standard deviation of 27; 5 of them are 137."""
    places = Counter(choices.shuffled(f"Question {index}?\nA) w\nB) x\nC) y\nD) z", "B")[1] for index in range(4000))
    assert set(places) == set("ABCD") and all(abs(count - 1000) < 137 for count in places.values())


@pytest.mark.parametrize(
    "question",
    [
        "Which?\nA) red\nB) blue\nC) Both A and B\nD) none",
        "Which?\nA) red\nB) blue\nC) none of the above",
        "Which?\nA) red\nB) blue\nC) all of these",
        "Which?\nA) red\nB) blue\n\nThink step by step.",
        "Which?\n1) red\n2) 1 and 3\n3) blue",
    ],
)
def test_an_order_that_means_something_stays(question: str) -> None:
    assert choices.shuffled(question, question.split("\n")[1][0]) is None


def test_a_gold_without_its_option_stays() -> None:
    assert choices.shuffled(ARC, "E") is None and choices.shuffled(ARC, "Days shrink.") is None


@pytest.mark.parametrize(
    ("answer", "label"),
    [
        ("B", "B"),
        ("b", "B"),
        (r"\text{B}", "B"),
        (r"\textbf{(B)}", "B"),
        ("$B$", "B"),
        ("(B)", "B"),
        ("B.", "B"),
        ("B) Years grow.", "B"),
        ("**Answer: B**", "B"),
        ("The correct answer is B.", "B"),
        ("2", "2"),
        ("B and C", None),
        ("A student walks", None),
        ("BC", None),
        ("12", None),
        ("", None),
    ],
)
def test_the_letter_of_an_answer(answer: str, label: str | None) -> None:
    assert choices.chosen(answer) == label
