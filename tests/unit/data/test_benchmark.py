"""Benchmark files as they are: what is one problem, what is a task, and what is refused."""

import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from benchmark_files import SCHEMA, luffy_file, row, write

from openrlhf_prefix.data.benchmark import Task, read_tasks
from openrlhf_prefix.data.rows import Columns
from openrlhf_prefix.errors import UserError

CHOICE = "Which is a planet?\n\nA) Vega\nB) Mars\nC) Sirius\nD) Rigel\n"


def tasks(*paths: Path, limit: int = 10**8, shuffle: bool = True) -> dict[str, Task]:
    return {task.name: task for task in read_tasks(map(str, paths), Columns(demonstrations=None), limit, shuffle)}


def lines(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_equal_rows_are_samples_of_one_problem(tmp_path) -> None:
    """66 rows: 32 of each of two problems of AIME, and two of MATH."""
    found = tasks(luffy_file(tmp_path / "valid.parquet"))
    assert {name: (len(task.questions), task.repeats) for name, task in found.items()} == {
        "math": (2, 1),
        "aime": (2, 32),
    }
    assert [question.row.answer for question in found["aime"].questions] == ["2", "3"]


def test_one_question_with_two_golds_or_in_two_sources_is_two_problems(tmp_path) -> None:
    rows = [row("aime", "1+2?", "3"), row("aime", "1+2?", "4"), row("amc", "1+2?", "3")]
    found = tasks(write(tmp_path / "a.parquet", rows))
    assert {name: len(task.questions) for name, task in found.items()} == {"aime": 2, "amc": 1}
    ids = [question.id for task in found.values() for question in task.questions]
    assert len(set(ids)) == 3


def test_ids_and_fingerprint_depend_on_the_content_alone(tmp_path) -> None:
    """Not on the file's name, on how often a row is repeated, or on other sources; a changed gold changes both."""
    one = tasks(luffy_file(tmp_path / "a.parquet"))["aime"]
    other = tasks(luffy_file(tmp_path / "b.parquet", repeats=8))["aime"]
    assert one.fingerprint() == other.fingerprint() and other.repeats == 8
    asked = [("Left to right, modulo 10: 2+5+7*9+6", "2"), ("Left to right, modulo 10: 8-4-5*6*0+3", "4")]
    changed = tasks(write(tmp_path / "c.parquet", [row("aime", *problem) for problem in asked]))["aime"]
    same = [old.id == new.id for old, new in zip(one.questions, changed.questions, strict=True)]
    assert same == [True, False] and changed.fingerprint() != one.fingerprint()


def test_the_system_message_is_left_out(tmp_path) -> None:
    (question, _) = tasks(luffy_file(tmp_path / "a.parquet"))["aime"].questions
    assert question.row.prompt == [{"role": "user", "content": "Left to right, modulo 10: 2+5+7*9+6"}]


def test_the_same_rows_as_json_lines(tmp_path) -> None:
    """verl's layout is one of columns, not of a file type."""
    rows = [row("aime", "1+2?", "3")] * 4
    found = tasks(lines(tmp_path / "a.jsonl", rows))["aime"]
    assert found.fingerprint() == tasks(write(tmp_path / "a.parquet", rows))["aime"].fingerprint()
    assert found.repeats == 4


def test_a_file_of_ours_is_one_task_with_its_own_ids(tmp_path) -> None:
    rows = [{"id": f"p{index}", "source": "chains", "prompt": "1+2?", "answer": "3"} for index in range(3)]
    (task,) = tasks(lines(tmp_path / "heldout.jsonl", rows)).values()
    assert task.name == "heldout" and [question.id for question in task.questions] == ["p0", "p1", "p2"]


def test_imported_benchmarks_are_split_by_source(tmp_path) -> None:
    """What `data import verl` makes of such a file: contract rows with a source, one a row."""
    rows = [{"source": "aime", "prompt": "1+2?", "answer": "3"}] * 32 + [
        {"source": "HuggingFaceH4/MATH-500", "prompt": "4", "answer": "4"}
    ]
    found = tasks(lines(tmp_path / "all.jsonl", rows))
    assert {name: (len(task.questions), task.repeats) for name, task in found.items()} == {
        "aime": (1, 32),
        "math": (1, 1),
    }


def test_a_folder_of_datasets_with_the_split_that_is_asked_for(tmp_path) -> None:
    """As a hub name is read; its columns are named, and its own name says which benchmark it is."""
    from datasets import Dataset, DatasetDict

    folder = tmp_path / "MATH-500"
    parts = {name: [{"problem": f"{name} 1+2?", "answer": "3"}] for name in ("train", "test")}
    DatasetDict({name: Dataset.from_list(rows) for name, rows in parts.items()}).save_to_disk(folder)
    (task,) = read_tasks([str(folder)], Columns("problem", "answer", None), 10, True, "test")
    assert task.name == "MATH-500" and [question.row.prompt for question in task.questions] == ["test 1+2?"]


def test_an_unknown_source_of_a_benchmark_file_is_a_task_too(tmp_path) -> None:
    found = tasks(write(tmp_path / "a.parquet", [row("org/my_set", "1+2?", "3"), row("aime", "1", "1")]))
    assert list(found) == ["org-my_set", "aime"]


def test_two_files_with_one_source_are_told_apart(tmp_path) -> None:
    found = tasks(luffy_file(tmp_path / "a.parquet"), luffy_file(tmp_path / "b.parquet"))
    assert list(found) == ["a-math", "a-aime", "b-math", "b-aime"]
    with pytest.raises(UserError, match="'a-math'"):
        (tmp_path / "x").mkdir()
        tasks(tmp_path / "a.parquet", luffy_file(tmp_path / "x" / "a.parquet"))


def test_a_limit_counts_problems_of_each_task(tmp_path) -> None:
    found = tasks(luffy_file(tmp_path / "a.parquet"), limit=1)
    assert {name: len(task.questions) for name, task in found.items()} == {"math": 1, "aime": 1}


def test_options_are_shuffled_in_tasks_of_multiple_choice_alone(tmp_path) -> None:
    names = [f"{CHOICE.strip()} {index}" for index in range(12)]
    path = write(tmp_path / "a.parquet", [row(source, text, "B") for source in ("gpqa", "math") for text in names])
    found, kept = tasks(path), tasks(path, shuffle=False)
    assert found["math"] == kept["math"] and not found["math"].choices
    assert found["gpqa"].moved == 12 and kept["gpqa"].moved == 0 and kept["gpqa"].choices
    for question in found["gpqa"].questions:
        assert f"{question.row.answer}) Mars" in question.row.prompt[0]["content"]
    assert len({question.row.answer for question in found["gpqa"].questions}) > 1
    assert {question.row.answer for question in kept["gpqa"].questions} == {"B"}


GOOD = row("aime", "1+2?", "3")


def without(column: str) -> pyarrow.Schema:
    return SCHEMA.remove(SCHEMA.get_field_index(column))


def test_what_cannot_be_used_is_named_with_row_and_column(tmp_path) -> None:
    lists = pyarrow.struct([("ground_truth", pyarrow.list_(pyarrow.string())), ("style", pyarrow.string())])
    with_lists = SCHEMA.set(SCHEMA.get_field_index("reward_model"), pyarrow.field("reward_model", lists))
    user = {**GOOD, "prompt": [{"role": "system", "content": "Be brief."}]}
    cases = [
        ([GOOD] * 3, without("prompt"), "row 1 has no column 'prompt'; the same in 2 more rows"),
        ([GOOD], without("reward_model"), "row 1 has no column 'reward_model'"),
        ([GOOD], without("data_source"), "row 1 has nothing in column 'data_source'"),
        ([GOOD, row("aime", "4?", None)], SCHEMA, "row 2 has nothing in column 'reward_model.ground_truth'"),
        ([row("aime", "1?", ["3", "4"])], with_lists, "row 1 has 2 answers in column 'reward_model.ground_truth'"),
        ([user], SCHEMA, "row 1 has no message of the user"),
        ([], SCHEMA, "holds no rows"),
    ]
    for index, (rows, schema, said) in enumerate(cases):
        path = write(tmp_path / f"{index}.parquet", rows, schema)
        with pytest.raises(UserError, match=said.replace("(", r"\(")):
            tasks(path)


def test_a_list_of_one_gold_is_that_gold(tmp_path) -> None:
    found = tasks(lines(tmp_path / "a.jsonl", [row("aime", "1?", ["3"]), row("aime", "2?", '["4"]')]))
    assert [question.row.answer for question in found["aime"].questions] == ["3", "4"]


def test_the_fixture_has_the_schema_of_the_published_file(tmp_path) -> None:
    """Noted from data/valid.all.parquet; a chat message has its content first there."""
    table = pyarrow.parquet.read_table(luffy_file(tmp_path / "a.parquet"))
    assert str(table.schema.remove_metadata()).splitlines() == [
        "data_source: string",
        "prompt: list<element: struct<content: string, role: string>>",
        "  child 0, element: struct<content: string, role: string>",
        "      child 0, content: string",
        "      child 1, role: string",
        "ability: string",
        "reward_model: struct<ground_truth: string, style: string>",
        "  child 0, ground_truth: string",
        "  child 1, style: string",
        "extra_info: struct<index: int64, split: string>",
        "  child 0, index: int64",
        "  child 1, split: string",
        "__index_level_0__: int64",
    ]
