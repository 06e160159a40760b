"""Published layouts: the rows they stand for, and for each 20 ways to be broken the sentence that says how."""

import copy
from pathlib import Path
from typing import Any

import pytest

pyarrow = pytest.importorskip("pyarrow")
from pyarrow import parquet  # noqa: E402

from openrlhf_prefix.data.files import iterate  # noqa: E402
from openrlhf_prefix.data.formats import FORMATS  # noqa: E402
from openrlhf_prefix.data.rows import Columns, parse  # noqa: E402

SYSTEM, USER = {"content": "S", "role": "system"}, {"content": "1+2?", "role": "user"}
DONE = {"content": "so \\boxed{3}", "role": "assistant"}

LUFFY = {
    "data_source": "openr1",
    "prompt": [SYSTEM, USER],
    "target": [DONE],
    "ability": "math",
    "reward_model": {"ground_truth": "3", "style": "rule"},
    "extra_info": {"index": 4, "split": "default"},
}
PREFIX_RFT = {
    "data_source": "openr1",
    "prompt": [USER],
    "demos": ["so \\boxed{3}", "so \\boxed{4}"],
    "demos_corr": [True, False],
    "reward_model": {"ground_truth": "3", "style": "rule"},
    "extra_info": {"index": 4},
}
OPENR1 = {
    "problem": "1+2?",
    "solution": "Add.",
    "answer": "3",
    "problem_type": "Algebra",
    "question_type": "math-word-problem",
    "source": "olympiads",
    "uuid": "u-1",
    "is_reasoning_complete": [True, True, False],
    "generations": ["so \\boxed{3}", "so \\boxed{4}", "so 3, that"],
    "correctness_math_verify": [True, False, True],
    "correctness_llama": None,
    "finish_reasons": None,
    "correctness_count": 2,
    "messages": [USER, DONE],
}
MESSAGES = {"messages": [SYSTEM, USER, DONE]}
EXAMPLES = {"luffy": LUFFY, "prefix_rft": PREFIX_RFT, "openr1": OPENR1, "messages": MESSAGES}

EXPECTED = {
    "luffy": {"prompt": [SYSTEM, USER], "answer": "3", "source": "openr1", "demonstrations": ["so \\boxed{3}"]},
    "prefix_rft": {
        "prompt": [USER],
        "answer": "3",
        "source": "openr1",
        "demonstrations": ["so \\boxed{3}"],
        "rejected_demonstrations": 1,
    },
    "openr1": {
        "id": "u-1",
        "prompt": "1+2?",
        "answer": "3",
        "source": "olympiads",
        "demonstrations": ["so \\boxed{3}"],
        "rejected_demonstrations": 2,
    },
    "messages": {"prompt": [SYSTEM, USER], "answer": "3", "demonstrations": ["so \\boxed{3}"]},
}

MISSING = object()


def changed(row: dict, changes: dict[str, Any]) -> dict:
    """A copy with dotted names set, or taken out."""
    row = copy.deepcopy(row)
    for name, value in changes.items():
        *folders, last = name.split(".")
        place = row
        for folder in folders:
            place = place[folder]
        if value is MISSING:
            del place[last]
        else:
            place[last] = value
    return row


@pytest.mark.parametrize("name", FORMATS)
def test_a_parquet_file_of_the_layout_becomes_rows_of_the_contract(tmp_path: Path, name: str) -> None:
    """Written and read back by pyarrow, so that nulls, structs and lists are those of real files."""
    parquet.write_table(pyarrow.Table.from_pylist([EXAMPLES[name]]), tmp_path / "set.parquet")
    ((_, row),) = iterate(str(tmp_path / "set.parquet"))
    assert FORMATS[name](row) == [EXPECTED[name]]
    bad: list[str] = []
    assert parse(1, FORMATS[name](row)[0], Columns(), bad) is not None and not bad


def chat_faults(column: str) -> list[tuple[dict, str]]:
    """Ten ways in which a column of chat messages is broken."""
    start = f"must have chat messages in column '{column}', but "
    return [
        ({column: MISSING}, f"has no column '{column}'"),
        ({column: None}, f"has nothing in column '{column}'"),
        ({column: []}, start + "it is empty"),
        ({column: "1+2?"}, start + "it is str"),
        ({column: USER}, start + "it is dict"),
        ({column: ["1+2?"]}, start + "message 0 is str"),
        ({column: [USER, None]}, start + "message 1 is NoneType"),
        ({column: [{"role": "user"}]}, start + "message 0 has no text under 'content'"),
        ({column: [{"from": "user", "value": "1+2?"}]}, start + "message 0 has no text under 'role'"),
        ({column: [{"role": "user", "content": ["1+2?"]}]}, start + "message 0 has no text under 'content'"),
    ]


GOLD = [
    ({"reward_model": MISSING}, "has no column 'reward_model'"),
    ({"reward_model": None}, "has null in column 'reward_model', which must have parts (ground_truth)"),
    ({"reward_model": "3"}, "has text in column 'reward_model', which must have parts (ground_truth)"),
    ({"reward_model.ground_truth": MISSING}, "has no column 'reward_model.ground_truth'"),
    ({"reward_model.ground_truth": None}, "has nothing in column 'reward_model.ground_truth'"),
    ({"reward_model.ground_truth": " "}, "has nothing in column 'reward_model.ground_truth'"),
    (
        {"reward_model.ground_truth": ["3", "4"]},
        "has 2 answers in column 'reward_model.ground_truth', which must have",
    ),
    ({"reward_model.ground_truth": {"a": "3"}}, "has an object in column 'reward_model.ground_truth', which must be"),
]

FAULTS = {
    "luffy": [
        *chat_faults("prompt"),
        *GOLD,
        ({"target": MISSING}, "has no column 'target'"),
        ({"target": "so 3"}, "must have chat messages in column 'target', but it is str"),
        ({"target": ["so 3"]}, "must have chat messages in column 'target', but message 0 is str"),
        ({"target": [[DONE]]}, "must have chat messages in column 'target', but message 0 is list"),
        ({"target": [{"role": "assistant"}]}, "must have chat messages in column 'target', but message 0 has no text"),
        ({"target": [USER]}, "has a message of 'user' as element 0 of column 'target'"),
        ({"target": [DONE, {**DONE, "content": " "}]}, "has an empty message as element 1 of column 'target'"),
    ],
    "prefix_rft": [
        *chat_faults("prompt"),
        *GOLD,
        ({"demos": MISSING}, "has no column 'demos'"),
        ({"demos": "so 3"}, "has text in column 'demos', which must be a list"),
        ({"demos": ["so 3", None]}, "has null as element 1 of column 'demos', which must be text"),
        ({"demos": [DONE, DONE]}, "has an object as element 0 of column 'demos', which must be text"),
        ({"demos": ["so 3", ""]}, "has an empty text as element 1 of column 'demos'"),
        ({"demos_corr": [True]}, "has 2 elements in column 'demos' but 1 in 'demos_corr'"),
        ({"demos_corr": [1, 0]}, "has a number (1) as element 0 of column 'demos_corr', which must be true or false"),
        ({"demos_corr": "yes"}, "has text in column 'demos_corr', which must be a list"),
    ],
    "openr1": [
        ({"problem": MISSING}, "has no column 'problem'"),
        ({"problem": None}, "has nothing in column 'problem'"),
        ({"problem": "\n "}, "has nothing in column 'problem'"),
        ({"problem": 12}, "has a number (12) in column 'problem', which must be text"),
        ({"problem": [USER]}, "has a list in column 'problem', which must be text"),
        ({"answer": MISSING}, "has no column 'answer'"),
        ({"answer": None}, "has nothing in column 'answer'"),
        ({"answer": ""}, "has nothing in column 'answer'"),
        ({"answer": True}, "has true or false in column 'answer', which must be text or a number"),
        ({"answer": []}, "has 0 answers in column 'answer', which must have one"),
        ({"generations": MISSING}, "has no column 'generations'"),
        ({"generations": "so 3"}, "has text in column 'generations', which must be a list"),
        ({"generations": {"0": "so 3"}}, "has an object in column 'generations', which must be a list"),
        ({"generations": ["a", None, "c"]}, "has null as element 1 of column 'generations', which must be text"),
        ({"generations": ["a", ["b"], "c"]}, "has a list as element 1 of column 'generations', which must be text"),
        ({"generations": ["a"]}, "has 1 elements in column 'generations' but 3 in 'correctness_math_verify'"),
        ({"generations": None}, "has 0 elements in column 'generations' but 3 in 'correctness_math_verify'"),
        ({"correctness_math_verify": MISSING}, "has no column 'correctness_math_verify'"),
        ({"correctness_math_verify": True}, "has true or false in column 'correctness_math_verify', which must be a"),
        (
            {"correctness_math_verify": ["yes", "no", "no"]},
            "has text as element 0 of column 'correctness_math_verify'",
        ),
        ({"is_reasoning_complete": [True]}, "has 3 elements in column 'generations' but 1 in 'is_reasoning_complete'"),
        ({"is_reasoning_complete": True}, "has true or false in column 'is_reasoning_complete', which must be a list"),
    ],
    "messages": [
        *chat_faults("messages"),
        ({"messages": [USER]}, "ends with a message of 'user' in column 'messages': the assistant's is needed"),
        ({"messages": [USER, DONE, USER]}, "ends with a message of 'user' in column 'messages'"),
        ({"messages": [DONE]}, "has no message of the user in column 'messages'"),
        ({"messages": [SYSTEM, DONE]}, "has no message of the user in column 'messages'"),
        ({"messages": [{**USER, "content": ""}, DONE]}, "has no message of the user in column 'messages'"),
        ({"messages": [USER, DONE, DONE]}, "ends with two messages of the assistant in column 'messages'"),
        ({"messages": [USER, {**DONE, "content": "so 3"}]}, "has no answer: neither a column 'answer' nor a closed"),
        ({"messages": [USER, {**DONE, "content": "\\boxed{3"}]}, "has no answer: neither a column"),
        ({"messages": [USER, {**DONE, "content": "\\boxed{ }"}]}, "has no answer: neither a column"),
        ({"answer": " "}, "has nothing in column 'answer'"),
        ({"answer": {"value": 3}}, "has an object in column 'answer', which must be text or a number"),
        ({"answer": ["3", "4"]}, "has 2 answers in column 'answer', which must have one"),
    ],
}


@pytest.mark.parametrize(
    ("name", "changes", "sentence"), [(name, *fault) for name, faults in FAULTS.items() for fault in faults]
)
def test_a_broken_row_is_answered_with_a_sentence(name: str, changes: dict, sentence: str) -> None:
    answer = FORMATS[name](changed(EXAMPLES[name], changes))
    assert isinstance(answer, str) and answer.startswith(sentence)


def test_every_layout_is_broken_in_20_ways_or_more() -> None:
    assert set(FAULTS) == set(FORMATS) and min(map(len, FAULTS.values())) >= 20


@pytest.mark.parametrize(
    ("name", "changes", "demonstrations", "answer"),
    [
        ("luffy", {"target": None}, [], "3"),
        ("luffy", {"target": []}, [], "3"),
        ("luffy", {"target": [DONE, DONE], "data_source": None}, ["so \\boxed{3}"] * 2, "3"),
        ("luffy", {"reward_model.ground_truth": ["3"]}, ["so \\boxed{3}"], "3"),
        ("luffy", {"reward_model.ground_truth": 3}, ["so \\boxed{3}"], "3"),
        ("luffy", {"extra_info": MISSING}, ["so \\boxed{3}"], "3"),
        ("prefix_rft", {"demos": None, "demos_corr": None}, [], "3"),
        ("prefix_rft", {"demos": [], "demos_corr": []}, [], "3"),
        ("prefix_rft", {"demos_corr": MISSING}, PREFIX_RFT["demos"], "3"),
        ("prefix_rft", {"demos_corr": []}, PREFIX_RFT["demos"], "3"),
        ("openr1", {"correctness_math_verify": [None, None, None]}, [], "3"),
        ("openr1", {"is_reasoning_complete": None}, ["so \\boxed{3}", "so 3, that"], "3"),
        ("openr1", {"generations": None, "correctness_math_verify": None, "is_reasoning_complete": None}, [], "3"),
        ("openr1", {"uuid": None, "source": MISSING}, ["so \\boxed{3}"], "3"),
        ("messages", {"answer": 4}, ["so \\boxed{3}"], "4"),
        ("messages", {"messages": [USER, {**DONE, "name": "bot"}]}, ["so \\boxed{3}"], "3"),
    ],
)
def test_what_may_be_absent_is_no_fault(name: str, changes: dict, demonstrations: list, answer: str) -> None:
    (row,) = FORMATS[name](changed(EXAMPLES[name], changes))
    assert (row["demonstrations"], row["answer"]) == (demonstrations, answer)
    assert None not in row.values()


def test_an_earlier_turn_stays_in_the_prompt() -> None:
    (row,) = FORMATS["messages"]({"messages": [USER, DONE, USER, DONE]})
    assert row["prompt"] == [USER, DONE, USER]
