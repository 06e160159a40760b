"""Published layouts: the rows they stand for, and for each 20 ways to be broken the sentence that says how."""

import copy
from pathlib import Path
from typing import Any

import pytest

pyarrow = pytest.importorskip("pyarrow")
from pyarrow import parquet  # noqa: E402

from openrlhf_prefix.data.files import iterate  # noqa: E402
from openrlhf_prefix.data.formats import FORMATS, hint, nearest  # noqa: E402
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
DEEPMATH = {
    "question": "1+2?",
    "final_answer": "3",
    "difficulty": 5.0,
    "topic": "Mathematics -> Algebra",
    "r1_solution_1": "so \\boxed{3}",
    "r1_solution_2": "thus \\boxed{3}",
    "r1_solution_3": None,
}
MATH_500 = {
    "problem": "1+2?",
    "solution": "so \\boxed{3}",
    "answer": "3",
    "subject": "Algebra",
    "level": 2,
    "unique_id": "test/algebra/1.json",
}
GSM8K = {"question": "1+2?", "answer": "1+2 = <<1+2=3>>3\n#### 3"}
AM_THINKING = {
    "system": "S",
    "conversations": [
        {"from": "human", "value": "1+2?", "info": {"source": "openr1", "ground_truth": "3", "test_case": None}},
        {"from": "assistant", "value": "<think>so</think><answer>3</answer>", "info": {"answer_content": "3"}},
    ],
}
SKYWORK = {
    "data_source": "train-math-deepscaler",
    "prompt": [USER],
    "ability": "math",
    "reward_model": {"ground_truth": '["3"]', "style": "rule"},
    "extra_info": {"index": 4, "model_difficulty": {"DeepSeek-R1-Distill-Qwen-7B": 0}},
}
EXAMPLES = {
    "luffy": LUFFY,
    "prefix_rft": PREFIX_RFT,
    "openr1": OPENR1,
    "messages": MESSAGES,
    "deepmath": DEEPMATH,
    "math": MATH_500,
    "gsm8k": GSM8K,
    "sharegpt": AM_THINKING,
    "verl": SKYWORK,
}

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
    "deepmath": {"prompt": "1+2?", "answer": "3", "demonstrations": ["so \\boxed{3}", "thus \\boxed{3}"]},
    "math": {"id": "test/algebra/1.json", "prompt": "1+2?", "answer": "3", "demonstrations": ["so \\boxed{3}"]},
    "gsm8k": {"prompt": "1+2?", "answer": "3", "demonstrations": [GSM8K["answer"]]},
    "sharegpt": {
        "prompt": [SYSTEM, USER],
        "answer": "3",
        "demonstrations": ["<think>so</think><answer>3</answer>"],
    },
    "verl": {"prompt": [USER], "answer": "3", "source": "train-math-deepscaler", "demonstrations": []},
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
        ({column: [{"role": "user", "content": [{"type": "image"}]}]}, start + "message 0 holds an image, and"),
    ]


def text_faults(column: str) -> list[tuple[dict, str]]:
    """Ways in which a column of text is broken."""
    return [
        ({column: MISSING}, f"has no column '{column}'"),
        ({column: None}, f"has nothing in column '{column}'"),
        ({column: "\n "}, f"has nothing in column '{column}'"),
        ({column: 12}, f"has a number (12) in column '{column}', which must be text"),
        ({column: [USER]}, f"has a list in column '{column}', which must be text"),
        ({column: {"text": "1+2?"}}, f"has an object in column '{column}', which must be text"),
        ({column: True}, f"has true or false in column '{column}', which must be text"),
    ]


def gold_faults(column: str) -> list[tuple[dict, str]]:
    """Ways in which a column with the answer is broken."""
    return [
        ({column: float("nan")}, f"has nan in column '{column}', which must be text or a finite number"),
        ({column: []}, f"has 0 answers in column '{column}', which must have one"),
        ({column: ["3", "4"]}, f"has 2 answers in column '{column}', which must have one"),
        ({column: '["3", "4"]'}, f"has 2 answers in column '{column}', which must have one"),
        ({column: [None]}, f"has nothing in column '{column}'"),
        ({column: '[" "]'}, f"has nothing in column '{column}'"),
        ({column: {"value": 3}}, f"has an object in column '{column}', which must be text or a number"),
        ({column: [[3]]}, f"has a list in column '{column}', which must be text or a number"),
        ({column: True}, f"has true or false in column '{column}', which must be text or a number"),
    ]


def turns(*said: tuple[Any, Any], **more: Any) -> dict:
    return {"conversations": [{"from": speaker, "value": text} for speaker, text in said], **more}


HUMAN, GPT = ("human", "1+2?"), ("gpt", "so \\boxed{3}")


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
    "deepmath": [
        *text_faults("question"),
        *gold_faults("final_answer"),
        ({"final_answer": MISSING}, "has no column 'final_answer'"),
        ({"final_answer": None}, "has nothing in column 'final_answer'"),
        ({"r1_solution_1": MISSING}, "has no column 'r1_solution_1'"),
        ({"r1_solution_1": " "}, "has nothing in column 'r1_solution_1'"),
        ({"r1_solution_2": ["so 3"]}, "has a list in column 'r1_solution_2', which must be text"),
    ],
    "math": [*text_faults("problem"), *text_faults("solution"), *gold_faults("answer")],
    "gsm8k": [
        *text_faults("question"),
        *text_faults("answer"),
        ({"answer": "3"}, "has no line '#### ANSWER' at the end of column 'answer'"),
        ({"answer": "so\n####"}, "has no line '#### ANSWER'"),
        ({"answer": "so\n#### \n"}, "has no line '#### ANSWER'"),
        ({"answer": "so\n### 3"}, "has no line '#### ANSWER'"),
        ({"answer": "#### 3 so\n#### "}, "has no line '#### ANSWER'"),
        ({"answer": ["so\n#### 3"]}, "has a list in column 'answer', which must be text"),
    ],
    "sharegpt": [
        ({"conversations": MISSING}, "has no column 'conversations'"),
        ({"conversations": None}, "has nothing in column 'conversations'"),
        ({"conversations": "1+2?"}, "has text in column 'conversations', which must be a list"),
        ({"conversations": ["1+2?"]}, "has text as element 0 of column 'conversations', which must be an object"),
        ({"conversations": [USER]}, "has None under 'from' of element 0 of column 'conversations', which must be"),
        (turns(("tool", "x"), GPT), "has 'tool' under 'from' of element 0 of column 'conversations'"),
        (turns((7, "x"), GPT), "has 7 under 'from' of element 0"),
        (turns(HUMAN), "ends with a message of 'user' in column 'conversations': the assistant's is needed"),
        (turns(HUMAN, GPT, HUMAN), "ends with a message of 'user'"),
        (turns(GPT), "has no message of the user in column 'conversations'"),
        (turns(("system", "S"), GPT), "has no message of the user"),
        (turns(("human", ""), GPT), "has no message of the user"),
        (turns(HUMAN, GPT, GPT), "ends with two messages of the assistant in column 'conversations'"),
        (turns(HUMAN, ("gpt", "so 3")), "has no answer: neither a column 'answer' nor a closed \\boxed{..}"),
        (turns(HUMAN, ("gpt", "\\boxed{3")), "has no answer"),
        (turns(HUMAN, ("gpt", None)), "must have chat messages in column 'conversations', but message 2 has no text"),
        (turns(HUMAN, ("gpt", 3)), "must have chat messages in column 'conversations', but message 2 has no text"),
        ({"system": 3}, "must have chat messages in column 'conversations', but message 0 has no text"),
        *[fault for fault in gold_faults("answer") if fault[0] != {"answer": None}],
    ],
    "verl": [*chat_faults("prompt"), *GOLD, *gold_faults("reward_model.ground_truth")],
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
        ("messages", {"messages": [{**USER, "info": {"reference_answer": "4"}}, DONE]}, ["so \\boxed{3}"], "4"),
        ("messages", {"messages": [USER, {**DONE, "info": {"reference_answer": None}}]}, ["so \\boxed{3}"], "3"),
        ("openr1", {"correctness_llama": [False, True, True]}, ["so \\boxed{3}"], "3"),  # asked where none is right
        (
            "openr1",
            {"correctness_math_verify": [False, False, None], "correctness_llama": [False, True, True]},
            ["so \\boxed{4}"],  # the third is not complete
            "3",
        ),
        ("deepmath", {"r1_solution_2": MISSING, "r1_solution_3": MISSING}, ["so \\boxed{3}"], "3"),
        ("deepmath", {"final_answer": 3, "topic": MISSING}, ["so \\boxed{3}", "thus \\boxed{3}"], "3"),
        ("math", {"answer": MISSING, "unique_id": MISSING}, ["so \\boxed{3}"], "3"),  # MATH, NuminaMath
        ("gsm8k", {"answer": "a #### b\n####  1,200 "}, ["a #### b\n####  1,200 "], "1,200"),
        ("sharegpt", turns(HUMAN, GPT, system=None), ["so \\boxed{3}"], "3"),
        ("sharegpt", turns(HUMAN, GPT, HUMAN, GPT, answer=["4"]), ["so \\boxed{3}"], "4"),
        ("verl", {"reward_model.ground_truth": ["3"], "data_source": MISSING}, [], "3"),
        ("verl", {"reward_model.ground_truth": "34", "extra_info": {"index": "u-1"}}, [], "34"),  # DAPO
        ("verl", {"reward_model.ground_truth": '["\\\\frac{1}{2}"]'}, [], "\\frac{1}{2}"),
        ("verl", {"reward_model.ground_truth": "[1, 2)"}, [], "[1, 2)"),  # an interval is no list
    ],
)
def test_what_may_be_absent_is_no_fault(name: str, changes: dict, demonstrations: list, answer: str) -> None:
    (row,) = FORMATS[name](changed(EXAMPLES[name], changes))
    assert (row["demonstrations"], row["answer"]) == (demonstrations, answer)
    assert None not in row.values()


def test_an_earlier_turn_stays_in_the_prompt() -> None:
    (row,) = FORMATS["messages"]({"messages": [USER, DONE, USER, DONE]})
    assert row["prompt"] == [USER, DONE, USER]


def test_text_parts_are_joined_in_every_reader_of_messages() -> None:
    parts = [{"type": "text", "text": "1+"}, {"type": "text", "text": "2?"}]
    (row,) = FORMATS["messages"]({"messages": [{"role": "user", "content": parts}, DONE]})
    assert row["prompt"] == [USER]


@pytest.mark.parametrize("name", FORMATS)
def test_the_columns_of_a_layout_lead_to_its_reader(name: str) -> None:
    """By all its columns, and by those that a file still has after one was renamed."""
    assert nearest(EXAMPLES[name]) is FORMATS[name]
    assert f"data import {name} set.jsonl OUT.jsonl" in hint(EXAMPLES[name], "set.jsonl", ("x", "y"))


def test_columns_that_no_layout_has_are_answered_with_the_list() -> None:
    assert nearest({"text": "1+2?"}) is None
    assert "The columns are text: openrlhf-prefix data import --list" in hint({"text": "a"}, "s", ("prompt", "answer"))
    assert hint({"prompt": None, "answer": None}, "s", ("prompt", "answer")) == ""
