"""Where a demonstration gives its answer away.

The verifier of these tests finds answers as the run's own does, and compares them plainly; the run's own one takes its
place in tests/integration/data.
"""

import random
import re
from fractions import Fraction

import pytest

from openrlhf_prefix.data.answers import answer_start, answer_starts, may_be_number
from openrlhf_prefix.reward import Score
from openrlhf_prefix.reward.answer import extract_answer


class Plain:
    """Equal are equal texts, and plain numbers of one value; nothing needs a worker."""

    workers = 2

    def __init__(self, fallback: str = "none") -> None:
        self.fallback = fallback

    def score_one(self, response: str, gold: str) -> Score:
        answer = (extract_answer(response, self.fallback) or "").strip()
        equal = bool(answer) and (answer == gold or None is not number(answer) == number(gold))
        return Score(float(equal), "equal" if equal else "different")


def number(text: str) -> Fraction | None:
    """The value of 5, -0.5, 1,200, 3/4, \\frac{3}{4} or 25 %."""
    plain = re.sub(r"\\frac\{(\d+)\}\{(\d+)\}", r"\1/\2", text).replace(",", "").replace("- ", "-").replace("\\", "")
    try:
        return Fraction(plain.rstrip("% .")) / (100 if "%" in plain else 1)
    except (ValueError, ZeroDivisionError):
        return None


def before(text: str, gold: str = "5", fallback: str = "none", ends: list[int] | None = None) -> str | None:
    start = answer_start(text, gold, Plain(fallback), ends)
    return None if start is None else text[:start]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"so \boxed{5}.", "so "),
        (r"so \fbox{5}.", "so "),
        (r"so \boxed {5}.", "so "),
        (r"maybe \boxed{4}, no: \boxed{5}", r"maybe \boxed{4}, no: "),  # a guess with other content gives nothing away
        (r"<think>it is \boxed{5}</think> \boxed{5}", "<think>it is "),  # the answer is given away by the first
        (r"it is \boxed{ 5 }. So \boxed{5}", "it is "),  # spaces do not hide it
        (r"it is \boxed{10/2}. So \boxed{5}", "it is "),  # nor does another way to write it
        (r"it is \boxed{5.0}. So \boxed{6}", "it is "),  # right for the verifier, whatever is said later
        (r"\boxed{5}", ""),
        (r"\boxed{4} then \boxed{4}", ""),  # wrong, but all that the text has to give
        (r"a \boxed{5} b \boxed{5", r"a "),
        (r"a \boxed{4} b \boxed{5", r"a \boxed{4} b "),  # the last one never closes: there is no content to compare
        (r"a \boxed{} b \boxed{}", r"a \boxed{} b "),
    ],
)
def test_the_answer_begins_at_the_first_box_that_the_verifier_takes_or_that_ends_the_text(text, expected) -> None:
    assert before(text) == expected


def test_escaped_braces_are_no_braces() -> None:
    assert before(r"a \boxed{\{1\}} b \boxed{\{1, 2\}}", r"\{1, 2\}") == r"a \boxed{\{1\}} b "


@pytest.mark.parametrize("text", ["", "no box", r"\boxed 5", "boxed{5}", "it is 5", "5 and more text"])
def test_a_text_without_box_and_mark_has_no_answer_to_stop_at(text: str) -> None:
    assert before(text) is None


def test_many_unclosed_boxes_take_linear_time() -> None:
    """Each box is read for 1000 characters at most: 2000 boxes are a matter of a second."""
    text = r"\boxed{" * 2000 + "5}"
    assert before(text) == text[: len(r"\boxed{") * 1999]


GSM8K = "She sold 48/2 = <<48/2=24>>24 clips in May.\n48+24 = <<48+24=72>>72 clips in all.\n#### 72"


@pytest.mark.parametrize(
    ("fallback", "text", "gold", "expected"),
    [
        ("last_number", GSM8K, "72", GSM8K[: GSM8K.index("=72") + 1]),  # the calculator's note is the first 72
        ("last_number", "48+24 clips.\nThe answer is 72.", "72", "48+24 clips.\nThe answer is "),
        ("last_number", "So x = -5", "-5", "So x = "),
        ("last_number", "Of them 5 % are", "5\\%", "Of them "),
        ("last_number", "it is \\frac{1}{2} of all", "1/2", "it is "),
        ("last_number", "0.25, that is 25 %", "1/4", ""),
        ("last_number", "there are 1,234 of them, 1,234", "1234", "there are "),
        ("last_number", "first 7, then 8", "9", "first 7, then "),  # wrong, but all that the text has to give
        ("last_line", "48+24 = 72 clips.\nThe answer is 72", "72", "48+24 = 72 clips.\nThe answer is "),
        ("last_line", "we work\n**Answer: east**", "east", "we work\n**Answer: "),
        ("last_line", "we work\n72\nand go on", "72", "we work\n"),
        ("last_line", "we go eastwards\nthen east", "east", "we go eastwards\n"),  # all of the last line
        ("none", GSM8K, "72", GSM8K[:-2]),  # no setting reads it, but a box around it is all that is left to do
        ("none", "we work\nThe answer is 72.", "72", "we work\nThe answer is "),
    ],
)
def test_an_answer_without_a_box_is_found_as_the_fallback_finds_it(fallback, text, gold, expected) -> None:
    assert before(text, gold, fallback) == expected


def test_a_fallback_does_not_read_an_open_thought_nor_past_a_box() -> None:
    assert before("<think>is it 5? yes</think>It is 5.", "5", "last_number") == "<think>is it 5? yes</think>It is "
    assert before(r"so \boxed{4}, or 5", "5", "last_number") == "so "  # the box is the answer, and ends the text


def test_a_number_counts_where_a_token_can_end() -> None:
    """With digits as tokens the beginning "it has 2" is right for the gold 2; with 24 as one token it never occurs."""
    text = "it has 24, so 2"
    digits = list(range(1, len(text) + 1))
    assert before(text, "2", "last_number", digits) == "it has "
    digits.remove(text.index("24") + 1)
    assert before(text, "2", "last_number", digits) == "it has 24, so "


def test_a_number_counts_where_its_token_ends_with_more_than_the_number() -> None:
    """ "}$" may be one token: no prefix ends right behind the brace."""
    text = r"$\frac{2}{4}$ it is, so $\frac{2}{4}$"
    ends = [end for end in range(1, len(text) + 1) if text[end - 1] != "}"]
    assert before(text, "1/2", "last_number", ends) == "$"


def test_all_digits_of_a_token_are_read_at_the_end_of_a_sentence() -> None:
    class Lenient(Plain):
        def score_one(self, response: str, gold: str) -> Score:
            return super().score_one(response.rpartition("=")[2] if "boxed" not in response else response, gold)

    text = "We add.\nThe sum = 46\nDone."
    ends = [end for end in range(1, len(text) + 1) if text[end - 1] != "4"]  # "46" is one token
    assert answer_start(text, "46", Lenient("last_line"), ends) == text.index("The")


WORDS = [
    "so ",
    "she has ",
    "= ",
    "+",
    " clips\n",
    "5",
    "12",
    "4.50 ",
    "1/2 ",
    "$",
    "Answer: ",
    "\n",
    "east ",
    "- ",
    "% ",
]
WORDS += [r"\frac{1}{2} ", "</think>", "<think>", r"\boxed{5}", r"\boxed{12} ", "1,200 ", ". "]
GOLDS = ["5", "12", "1/2", "4.5", "1200", "24", "-5", "east", "51"]


@pytest.mark.parametrize("fallback", ["none", "last_number", "last_line"])
def test_no_beginning_up_to_the_answer_is_right_by_itself(fallback: str) -> None:
    """The property itself, for 400 random texts, with every character a possible end of a prefix."""
    rng, found, verifier = random.Random(5), 0, Plain(fallback)
    for _ in range(400):
        text = "".join(rng.choices(WORDS, k=rng.randint(2, 10)))
        gold = rng.choice(GOLDS)
        start = answer_start(text, gold, verifier)
        shown = len(text) if start is None else start
        found += start is not None
        right = [end for end in range(1, shown + 1) if verifier.score_one(text[:end], gold).value]
        assert not right, (text, gold, text[: right[0]])
    assert found > 100


def test_many_texts_are_read_at_once_each_with_its_own_gold() -> None:
    texts, golds = [r"a \boxed{1} b \boxed{2}"] * 2 + ["none"], ["1", "2", "3"]
    assert answer_starts(texts, golds, Plain(), lambda text: None) == [2, 14, None]


@pytest.mark.parametrize(
    "gold", ["72", "-3", "1,200", "1{,}200", r"\frac{3}{4}", "x = 3", r"5 \text{ cm}", "3 km", r"\$5"]
)
def test_golds_that_a_number_can_equal_are_looked_for(gold: str) -> None:
    assert may_be_number(gold)


@pytest.mark.parametrize(
    "gold",
    [
        r"\sqrt{4}",
        "(1,2)",
        r"\{1, 2\}",
        "1 \\text{ or } 2",
        r"\begin{vmatrix}1&2\\3&4\end{vmatrix}",
        r"\pi",
        "2^{10}",
        "5!",
        r"10\%",
        r"\frac{\pi}{2}",
        "3e2",
        r"e^{2}",
    ],
)
def test_a_constant_can_equal_a_number_too(gold: str) -> None:
    assert may_be_number(gold)


@pytest.mark.parametrize("gold", ["x^2+1", "north", r"\text{north}", "n(n+1)", "(x, 2)", "B"])
def test_golds_that_no_number_equals_are_not(gold: str) -> None:
    assert not may_be_number(gold)


def test_a_sentence_with_an_equation_is_read_whole_only_where_its_number_is_the_gold() -> None:
    asked = []

    class Asked(Plain):
        def score_one(self, response: str, gold: str) -> Score:
            asked.append(response)
            return super().score_one(response, gold)

    text = "So the sum is 12+34 = 46.\nThe rest, as it should be, is 5-3 = $2$ of them.\nNo equation has 7 here."
    answer_start(text, "2", Asked("last_line"))
    assert [said for said in asked if "boxed" not in said] == [
        "The rest, as it should be, is 5-3 = $2",
        "The rest, as it should be, is 5-3 = $2$",
    ]
