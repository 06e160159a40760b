"""Import: the file is complete or not there, faults name their row, and what is left out is counted."""

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pyarrow")

from openrlhf_prefix import cli  # noqa: E402
from openrlhf_prefix.data.convert import Converted, convert  # noqa: E402
from openrlhf_prefix.data.formats import FORMATS  # noqa: E402
from openrlhf_prefix.errors import UserError  # noqa: E402


def chat(question: str = "1+2?", **more: Any) -> dict:
    said = [{"role": "user", "content": question}, {"role": "assistant", "content": "so \\boxed{3}"}]
    return {"messages": said, **more}


def run(tmp_path: Path, *lines: dict | bytes, **options: Any) -> tuple[Converted, list[dict]]:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_bytes(
        b"".join((line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n" for line in lines)
    )
    try:
        made = convert("messages", str(source), target, progress=False, **options)
    finally:
        assert {path.name for path in tmp_path.iterdir()} <= {"in.jsonl", "out.jsonl"}  # no temporary file stays
    return made, [json.loads(line) for line in target.read_bytes().splitlines()]


def refusal(tmp_path: Path, *lines: dict | bytes, **options: Any) -> str:
    with pytest.raises(UserError) as caught:
        run(tmp_path, *lines, **options)
    assert not (tmp_path / "out.jsonl").exists()
    return str(caught.value)


def test_rows_get_ids_of_file_and_line_unless_they_have_their_own(tmp_path: Path) -> None:
    made, rows = run(tmp_path, chat(), b"", chat("2+1?", id="own"))
    assert [row["id"] for row in rows] == ["in-1", "own"]
    assert (made.rows, made.demonstrations, made.bare, made.skipped) == (2, 2, 0, 0)


def test_text_stays_as_it_is(tmp_path: Path) -> None:
    assert (
        run(tmp_path, chat("\u00fc\u2264\U0001f600\u2028?"))[1][0]["prompt"][0]["content"]
        == "\u00fc\u2264\U0001f600\u2028?"
    )


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (b'{"messages": [', "row 2 is not JSON"),
        (b'{"messages": "\xff"}', "row 2 is not JSON"),
        (b"[]", "row 2 is not an object"),
        (chat(messages=None), "row 2 has nothing in column 'messages'"),
        (chat("\ud800"), "row 2 holds half a surrogate pair"),
    ],
)
def test_a_broken_row_stops_the_import_and_leaves_nothing(tmp_path: Path, line: Any, sentence: str) -> None:
    message = refusal(tmp_path, chat(), line)
    assert sentence in message and "in.jsonl" in message and "--skip_bad" in message


def test_skipped_rows_of_one_fault_are_one_line_with_a_count(tmp_path: Path) -> None:
    made, rows = run(tmp_path, chat(), *[b"{"] * 7, chat("2+1?"), skip_bad=True)
    assert [row["id"] for row in rows] == ["in-1", "in-9"]
    assert made.skipped == 7
    (line,) = made.faults.lines()
    assert line.startswith("row 2 is not JSON") and line.endswith("the same in 6 more rows (3, 4, 5, 6, ...)")


def test_an_id_used_twice_is_a_fault(tmp_path: Path) -> None:
    assert "row 3 has the id 'x' of row 1" in refusal(tmp_path, chat(id="x"), chat(), chat(id="x"))


@pytest.mark.parametrize("lines", [(), (b"", b" ")])
def test_an_empty_file_is_refused(tmp_path: Path, lines: tuple) -> None:
    assert "in.jsonl holds no rows" in refusal(tmp_path, *lines)


def test_a_file_of_nothing_but_broken_rows_is_refused_even_when_they_may_be_skipped(tmp_path: Path) -> None:
    assert "holds no rows that can be used: row 1 is not JSON" in refusal(tmp_path, b"{", skip_bad=True)


def test_an_existing_file_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "out.jsonl").write_text("mine\n")
    with pytest.raises(UserError, match="out.jsonl exists already"):
        convert("messages", "in.jsonl", tmp_path / "out.jsonl")
    assert (tmp_path / "out.jsonl").read_text() == "mine\n"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["nonsense", "in.jsonl", "out.jsonl"], "unknown format 'nonsense': choose one of luffy, prefix_rft"),
        (["luffy", "in.jsonl", "out.parquet"], "must end in .jsonl"),
        (["luffy", "absent.parquet", "out.jsonl"], "there is no 'absent.parquet'"),
        (["luffy", "in.jsonl", "no/folder/out.jsonl"], "there is no folder"),
    ],
)
def test_a_wrong_command_ends_in_one_sentence_and_exit_code_2(tmp_path, monkeypatch, capsys, words, sentence) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        cli.main(["data", "import", *words])
    assert ended.value.code == 2
    assert sentence in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "meant"),
    [("dapo", "verl"), ("DAPO-17k", "verl"), ("Skywork-OR1", "verl"), ("opnr1", "openr1"), ("MATH-500", "math")]
    + [("deepmath103k", "deepmath"), ("share_gpt", "sharegpt"), ("am-thinking", "sharegpt"), ("numina", "math")],
)
def test_a_name_that_no_reader_has_is_answered_with_the_one_that_is_meant(tmp_path, name, meant) -> None:
    with pytest.raises(UserError, match=f"unknown format '{name}': did you mean {meant} "):
        convert(name, "in.jsonl", tmp_path / "out.jsonl")


def test_an_unknown_layout_is_answered_with_the_nearest_reader(tmp_path: Path) -> None:
    """By the columns of the file: for a name that means nothing, and for a reader that does not fit."""
    row = {"question": "1+2?", "final_answer": "3", "r1_solution_1": "so \\boxed{3}"}
    (tmp_path / "in.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(UserError, match="nearest to the columns of .*in.jsonl is deepmath"):
        convert("xyzzy", str(tmp_path / "in.jsonl"), tmp_path / "out.jsonl")
    message = refusal(tmp_path, *[row] * 9)
    assert "row 1 has no column 'messages'; the same in 4 more rows (2, 3, 4, 5)" in message
    assert message.endswith("Its columns are nearest to those of DeepMath-103K: data import deepmath")


def test_rows_with_images_are_refused(tmp_path: Path) -> None:
    assert "row 2 has images in column 'images'" in refusal(tmp_path, chat(images=[]), chat("2?", images=["a.png"]))


def test_the_list_has_one_line_for_every_format(capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["data", "import", "--list"])
    assert not ended.value.code
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [*FORMATS, "reasoning-gym"]
    assert any("MATH-500" in line for line in lines) and any("GSM8K" in line for line in lines)


def test_an_import_of_nothing_names_what_is_missing(capsys) -> None:
    with pytest.raises(SystemExit):
        cli.main(["data", "import", "luffy", "in.jsonl"])
    assert "arguments are required: OUT; see openrlhf-prefix data import --help" in capsys.readouterr().err


def test_the_verb_says_what_it_made(tmp_path, capsys) -> None:
    (tmp_path / "in.jsonl").write_text(json.dumps(chat()) + "\n")
    cli.main(["data", "import", "messages", str(tmp_path / "in.jsonl"), str(tmp_path / "out.jsonl")])
    assert "1 rows with 1 demonstrations; 0 rows without any, 0 demonstrations marked" in capsys.readouterr().out
