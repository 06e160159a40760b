"""Answers are sorted into kinds, and the picture holds what the file holds."""

import json
from collections import Counter
from pathlib import Path

import pytest

pytest.importorskip("pyarrow")

from openrlhf_prefix.data.prompts import Prompts  # noqa: E402
from openrlhf_prefix.data.rows import Columns  # noqa: E402
from openrlhf_prefix.data.stats import answer_kind, stats  # noqa: E402
from openrlhf_prefix.errors import UserError  # noqa: E402

KINDS = {
    "integer": ["0", "-3", "+12", "$7$", "1,000", "1{,}000,000", r"\boxed{42}", " 5 "],
    "decimal": ["0.5", "-.25", "3."],
    "fraction": ["1/2", "-3 / 4", r"\frac{1}{2}", r"\dfrac{-7}{12}", r"\frac12", r"$\tfrac{1}{3}$"],
    "choice": ["A", "(C)", r"\text{B}", r"\text{(D)}"],
    "text": ["east", "no solution", r"\text{north west}", "Monday."],
    "expression": [
        "x",
        r"2\sqrt{3}",
        "(1, 2)",
        "x^2 + 1",
        r"\frac{x}{2}",
        "12,34",
        r"90^\circ",
        "50\\%",
        r"\pi",
        "10^4",
    ],
}


@pytest.mark.parametrize(("kind", "answer"), [(kind, answer) for kind, answers in KINDS.items() for answer in answers])
def test_an_answer_is_of_the_first_kind_that_fits_as_a_whole(kind: str, answer: str) -> None:
    assert answer_kind(answer) == kind


def write(path: Path, rows: list[dict]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_the_picture_is_a_png_and_the_kinds_are_counted(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    rows = [{"prompt": "why", "answer": answer, "demonstrations": ["x"] * index} for index, answer in enumerate("57A")]
    kinds = stats(write(tmp_path / "set.jsonl", rows), tmp_path / "out.png", Columns())
    assert kinds == Counter(integer=2, choice=1)
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")


def test_a_set_without_demonstrations_can_be_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    stats(write(tmp_path / "set.jsonl", [{"prompt": "why", "answer": "7"}]), tmp_path / "out.png", Columns())
    assert (tmp_path / "out.png").exists()


def test_broken_rows_and_other_pictures_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "set.jsonl", [{"prompt": "why"}])
    with pytest.raises(UserError, match="row 1 has no answer"):
        stats(path, tmp_path / "out.png", Columns())
    with pytest.raises(UserError, match="out.pdf must end in .png"):
        stats(path, tmp_path / "out.pdf", Columns())
    with pytest.raises(UserError, match="holds no rows"):
        stats(write(tmp_path / "empty.jsonl", []), tmp_path / "out.png", Columns())


def test_lengths_of_prompts_include_the_template(tmp_path: Path, monkeypatch) -> None:
    """Of "why" with "u:" before and ";a:" after it, 8 letters; in text around it, 6. Demonstrations stay bare."""

    class Letters:
        def __call__(self, texts: list[str], add_special_tokens: bool = True) -> dict[str, list[list[int]]]:
            return {"input_ids": [[ord(letter) for letter in text] for text in texts]}

        def apply_chat_template(self, messages: list[dict], tokenize: bool, add_generation_prompt: bool) -> str:
            return f"u:{messages[0]['content']};" + ("a:" if add_generation_prompt else "")

    drawn = []
    monkeypatch.setattr("openrlhf_prefix.data.stats._draw", lambda *parts: drawn.append(parts))
    path = write(tmp_path / "set.jsonl", [{"prompt": "why", "answer": "7", "demonstrations": ["ab"]}])
    for prompts in (Prompts(Letters()), Prompts(Letters(), chat=False, template="Q {}!"), Prompts()):
        stats(path, tmp_path / "out.png", Columns(), prompts=prompts)
    assert [(unit, lengths.prompts, lengths.demonstrations) for _, _, unit, lengths, _ in drawn] == [
        ("tokens", [8], [2]),
        ("tokens", [6], [2]),
        ("characters", [3], [2]),
    ]
