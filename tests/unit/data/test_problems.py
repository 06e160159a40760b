"""The row contract: good rows become ids once, bad rows are refused with file, row number and reason."""

import json
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

np = pytest.importorskip("numpy")

from openrlhf_prefix.data.problems import (  # noqa: E402
    CAPPED,
    DOUBLED,
    LONG_DROPPED,
    LONG_PROMPTS,
    LONG_TRUNCATED,
    UNUSABLE,
    WITHHELD,
    Problem,
    load_problems,
    response_budget,
)
from openrlhf_prefix.errors import UserError  # noqa: E402
from openrlhf_prefix.settings.config import nested  # noqa: E402

BUDGET = 8


class LetterTokenizer:
    """One id a letter, its code point, but "ab" is one id, 500; the special token 1 in front unless told otherwise."""

    def __call__(self, texts: list[str], add_special_tokens: bool = True) -> dict[str, list[list[int]]]:
        start = [1] if add_special_tokens else []
        return {"input_ids": [start + [ord(c) for c in text.replace("ab", chr(500))] for text in texts]}

    def apply_chat_template(self, messages: list[dict], tokenize: bool, add_generation_prompt: bool) -> str:
        assert not tokenize
        text = "".join(f"{message['role'][0]}:{message['content']};" for message in messages)
        return text + ("a:" if add_generation_prompt else "")


def ids(text: str) -> list[int]:
    return [ord(c) for c in text]


def flags(**changed: Any) -> SimpleNamespace:
    flat = {
        "data.input_key": "prompt",
        "data.label_key": "answer",
        "data.input_template": None,
        "data.apply_chat_template": False,
        "data.max_samples": 100,
        "data.max_len": 20,
        "data.long_prompts": "refuse",
        "hybrid.demonstration": "prefix",
        "hybrid.sft_steps": 0,
        "hybrid.rescue": "none",
        "prefix.demonstrations_key": "demonstrations",
        "prefix.demonstration_fraction": 1.0,
        "prefix.long_demonstrations": "refuse",
        "prefix.stop_before_answer": True,
        "teacher.context": "plain",
        "teacher.template": "{demonstration}!{prompt}",
        "train.seed": 42,
        "verifier.workers": 1,
        "verifier.fallback": "none",
    }
    return nested({**flat, **{name.replace("__", "."): value for name, value in changed.items()}})


@pytest.fixture
def private_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not JSON lines is read by `datasets`, which keeps a copy of every file."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


BOXED = "abcd" + "\\boxed{7}"  # "ab" is one token, so that the box begins after 3 of them


def write(path: Path, rows: list[dict]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def load(tmp_path: Path, *rows: dict, **changed: Any) -> list[Problem]:
    path = write(tmp_path / "set.jsonl", list(rows))
    return load_problems(path, flags(**changed), LetterTokenizer(), BUDGET, "train")


def refusal(tmp_path: Path, *rows: dict, **changed: Any) -> str:
    with pytest.raises(UserError) as caught:
        load(tmp_path, *rows, **changed)
    assert str(caught.value).startswith(f"{tmp_path / 'set.jsonl'}: ")
    return str(caught.value)


def good(**changed: Any) -> dict:
    return {"prompt": "why", "answer": "7", "demonstrations": ["xyz"], **changed}


def test_good_rows_become_ids_with_names_and_answers(tmp_path: Path) -> None:
    """Id and source default to file name and row number; the answer 7 may be a number or text."""
    rows = [good(id="one", source="book"), good(id=None, source=None, prompt="who", demonstrations=["xy", "pqrs"])]
    first, second = load(tmp_path, *rows)
    assert (first.id, first.source, first.answer) == ("one", "book", "7")
    assert (second.id, second.source, second.answer) == ("set-2", "set", "7")
    assert first.prompt_ids.tolist() == ids("why") and second.prompt_ids.tolist() == ids("who")
    assert [demonstration.tolist() for demonstration in first.demonstrations] == [ids("xyz")]
    assert [demonstration.tolist() for demonstration in second.demonstrations] == [ids("xy"), ids("pqrs")]
    assert first.prompt_ids.dtype == first.demonstrations[0].dtype == "int32"


@pytest.mark.parametrize(
    ("number", "text"),
    [("0.00001", "0.00001"), ("1e-5", "0.00001"), ("1e16", "10000000000000000"), ("288.0", "288"), ("-0.50", "-0.5")],
)
def test_a_number_in_a_file_keeps_its_value_as_text(tmp_path: Path, number: str, text: str) -> None:
    """Python's own text of 0.00001 is 1e-05, which a formula reads as 1 e - 5."""
    path = tmp_path / "set.jsonl"
    path.write_text(f'{{"prompt": "why", "answer": {number}}}\n')
    assert load_problems(str(path), flags(), LetterTokenizer(), BUDGET, "train")[0].answer == text


def test_rows_without_an_answer_are_read_where_nobody_asks_for_one(tmp_path: Path) -> None:
    """Neither is what stands there looked at, nor a cut before it looked for: demonstrations are taken whole."""
    rows = [{"prompt": "why", "demonstrations": [BOXED]}, good(answer=["3", "4"], demonstrations=[BOXED])]
    path = write(tmp_path / "set.jsonl", rows)
    problems = load_problems(path, flags(), LetterTokenizer(), 12, "train", answered=False)
    assert [problem.answer for problem in problems] == ["", ""]
    assert [problem.limits for problem in problems] == [(11,)] * 2  # all but the last of 12 tokens
    assert "row 1 has no answer" in refusal(tmp_path, *rows)


def test_demonstrations_stay_with_their_rows_where_some_rows_have_none(tmp_path: Path) -> None:
    groups = [[], ["xy", "zw"], None, ["pq"]]
    problems = load(tmp_path, *(good(demonstrations=group) for group in groups))
    found = [[demonstration.tolist() for demonstration in problem.demonstrations] for problem in problems]
    assert found == [[], [ids("xy"), ids("zw")], [], [ids("pq")]]


def test_a_file_without_the_demonstrations_column_is_fine(tmp_path: Path) -> None:
    assert load(tmp_path, {"prompt": "why", "answer": 7})[0].demonstrations == ()


def test_prompt_and_demonstration_join_as_ids_and_are_not_tokenised_together(tmp_path: Path) -> None:
    """ "xa" + "bc" as one text would be x, 500 (ab), c. A cut after one demonstration token must give x, a, b."""
    problem = load(tmp_path, good(prompt="xa", demonstrations=["bc"]))[0]
    assert LetterTokenizer()(["xabc"], add_special_tokens=False)["input_ids"] == [[ord("x"), 500, ord("c")]]
    assert [*problem.prompt_ids, *problem.demonstrations[0][:1]] == ids("xab")
    assert [*problem.prompt_ids, *problem.demonstrations[0]] == ids("xabc")


def test_no_special_token_stands_before_prompt_or_demonstration(tmp_path: Path) -> None:
    problem = load(tmp_path, good())[0]
    assert 1 not in problem.prompt_ids and 1 not in problem.demonstrations[0]


def test_a_tokenizer_that_begins_every_text_with_a_bos_gives_exactly_one(tmp_path: Path) -> None:
    """\x01 is the id 1: a template that writes it itself gets no second one. Chat templates write their own."""

    class Bos(LetterTokenizer):
        bos_token_id = 1

    path = write(tmp_path / "set.jsonl", [good()])
    for template, text in ((None, "\x01why"), ("Q{}!", "\x01Qwhy!"), ("\x01Q{}!", "\x01Qwhy!")):
        problem = load_problems(path, flags(data__input_template=template), Bos(), BUDGET, "train")[0]
        assert problem.prompt_ids.tolist() == ids(text)
        assert problem.demonstrations[0].tolist() == ids("xyz")
    chat = load_problems(path, flags(data__apply_chat_template=True), Bos(), BUDGET, "train")[0]
    assert chat.prompt_ids.tolist() == ids("u:why;a:")


def test_a_prompt_that_the_chat_template_refuses_is_a_sentence_with_its_row(tmp_path: Path) -> None:
    """What jinja2 raises, and what Python raises inside a template."""
    jinja2 = pytest.importorskip("jinja2")
    chat = [{"role": "system", "content": "S"}, {"role": "user", "content": "why"}]
    for error in (jinja2.exceptions.TemplateError("System role not\nsupported"), TypeError("no such thing")):

        class Refusing(LetterTokenizer):
            def apply_chat_template(self, messages: list[dict], error: Exception = error, **_: Any) -> str:
                if messages[0]["role"] == "system":
                    raise error
                return "why"

        path = write(tmp_path / "set.jsonl", [good(), good(prompt=chat)])
        with pytest.raises(UserError) as caught:
            load_problems(path, flags(data__apply_chat_template=True), Refusing(), BUDGET, "train")
        said = " ".join(str(error).split())
        assert f"row 2: the tokenizer's chat template refuses its messages (system, user): {said}" in str(caught.value)


def test_a_thought_that_prompt_and_demonstration_open_is_counted(tmp_path: Path) -> None:
    counts: Counter = Counter()
    changed = {"data__input_template": "{}<think>\n"}
    load_long(
        tmp_path, good(demonstrations=["<think> x", "xyz"]), good(demonstrations=["xyz"]), counts=counts, **changed
    )
    assert +counts == {DOUBLED: 1}


def test_columns_may_be_named_with_dots_and_golds_stand_alone_in_a_list(tmp_path: Path) -> None:
    """verl's rows as they are: reward_model.ground_truth is 7, ["7"], or a list written into a text."""
    for index, gold in enumerate((7, "7", ["7"], '["7"]')):
        (tmp_path / str(index)).mkdir()
        row = {"prompt": "why", "reward_model": {"ground_truth": gold, "style": "rule"}, "extra": {"worked": "xyz"}}
        keys = {"data__label_key": "reward_model.ground_truth", "prefix__demonstrations_key": "extra.worked"}
        problem = load(tmp_path / str(index), row, **keys)[0]
        assert problem.answer == "7" and problem.demonstrations[0].tolist() == ids("xyz")
    dotted = {"prompt": "why", "a.b": "7"}  # a column may have a dot in its own name
    assert load(tmp_path, dotted, data__label_key="a.b")[0].answer == "7"


def test_a_column_of_one_text_is_a_demonstration_and_an_empty_one_is_none(tmp_path: Path) -> None:
    rows = [{"prompt": "why", "answer": "7", "solution": text} for text in ("xyz", "", None)]
    problems = load(tmp_path, *rows, prefix__demonstrations_key="solution")
    assert [len(problem.demonstrations) for problem in problems] == [1, 0, 0]


def test_text_parts_of_a_message_are_joined_and_images_are_named(tmp_path: Path) -> None:
    def asked(*parts: dict) -> dict:
        return good(prompt=[{"role": "user", "content": list(parts)}])

    text = [{"type": "text", "text": "w"}, {"type": "text", "text": "hy"}]
    chat = {"data__apply_chat_template": True}
    assert load(tmp_path, asked(*text), **chat)[0].prompt_ids.tolist() == ids("u:why;a:")
    for kind, name in (("image", "an image"), ("image_url", "an image"), ("audio", "audio")):
        assert f"but message 0 holds {name}, and" in refusal(tmp_path, asked(*text, {"type": kind, kind: "x"}), **chat)
    assert "message 0 has no text under 'content'" in refusal(tmp_path, asked({"type": "text"}), **chat)
    assert "row 1 has images (column 'images')" in refusal(tmp_path, good(images=["a.png"]))
    assert len(load(tmp_path, good(images=[], image=None))) == 1


def test_a_file_of_another_layout_is_answered_with_its_reader(tmp_path: Path) -> None:
    row = {"problem": "1+2?", "solution": "so \\boxed{3}", "answer": "3"}
    message = refusal(tmp_path, row, row)
    assert (
        "row 1 has no prompt (column 'prompt'; --data.input_key names another); the same in 1 more row (2)" in message
    )
    assert f"data import math {tmp_path / 'set.jsonl'} OUT.jsonl" in message
    assert "data import" not in refusal(tmp_path, good(), good(answer=None))


def test_the_keys_can_be_renamed_and_the_template_wraps_the_prompt(tmp_path: Path) -> None:
    row = {"q": "why", "a": "7", "d": ["xyz"]}
    changed = {"data__input_key": "q", "data__label_key": "a", "prefix__demonstrations_key": "d"}
    problem = load(tmp_path, row, **changed, data__input_template="Q{}!")[0]
    assert problem.prompt_ids.tolist() == ids("Qwhy!") and problem.answer == "7"
    assert problem.demonstrations[0].tolist() == ids("xyz")


def test_the_chat_template_takes_text_and_messages(tmp_path: Path) -> None:
    text = load(tmp_path, good(), data__apply_chat_template=True)[0]
    assert text.prompt_ids.tolist() == ids("u:why;a:")
    messages = [{"role": "system", "content": "S"}, {"role": "user", "content": "why"}]
    (tmp_path / "chat").mkdir()
    chat = load(tmp_path / "chat", good(prompt=messages), data__apply_chat_template=True)[0]
    assert chat.prompt_ids.tolist() == ids("s:S;u:why;a:")


def test_several_files_are_read_in_order_each_up_to_the_limit_and_all_of_them_too(tmp_path: Path) -> None:
    first = write(tmp_path / "first.jsonl", [good(prompt=f"f{i}") for i in range(3)])
    second = write(tmp_path / "second.jsonl", [good(prompt="s0")])
    assert len(load_problems(f"{first}, {second} ,", flags(), LetterTokenizer(), BUDGET, "train")) == 4
    for limit, expected in {
        2: ["first-1", "first-2"],
        3: ["first-1", "first-2", "first-3"],
        4: ["first-1", "first-2", "first-3", "second-1"],
    }.items():
        problems = load_problems(
            f"{first},{second}", flags(data__max_samples=limit), LetterTokenizer(), BUDGET, "train"
        )
        assert [problem.id for problem in problems] == expected
    assert [problem.prompt_ids.tolist() for problem in problems] == [ids("f0"), ids("f1"), ids("f2"), ids("s0")]


def test_blank_lines_are_no_rows(tmp_path: Path) -> None:
    path = tmp_path / "set.jsonl"
    path.write_text(f"{json.dumps(good(prompt='one'))}\n\n{json.dumps(good(prompt='two'))}\n \n")
    problems = load_problems(str(path), flags(), LetterTokenizer(), BUDGET, "train")
    assert [problem.prompt_ids.tolist() for problem in problems] == [ids("one"), ids("two")]


@pytest.mark.usefixtures("private_cache")
def test_a_json_array_and_a_csv_table_hold_the_same_rows(tmp_path: Path) -> None:
    """A table has no lists: its rows come without demonstrations. The limit holds here too."""
    (tmp_path / "set.json").write_text(json.dumps([good(), good(prompt="who")]))
    (tmp_path / "set.csv").write_text("prompt,answer\nwhy,7\nwho,8\n")
    array = load_problems(str(tmp_path / "set.json"), flags(), LetterTokenizer(), BUDGET, "train")
    assert [problem.prompt_ids.tolist() for problem in array] == [ids("why"), ids("who")]
    assert array[0].demonstrations[0].tolist() == ids("xyz")
    limited = flags(data__max_samples=1)
    table = load_problems(str(tmp_path / "set.csv"), limited, LetterTokenizer(), BUDGET, "train")
    assert [(problem.id, problem.answer, problem.demonstrations) for problem in table] == [("set-1", "7", ())]


@pytest.mark.usefixtures("private_cache")
def test_a_broken_array_is_refused_with_the_name_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "broken.json"
    path.write_text('[{"prompt": "wh')
    with pytest.raises(UserError, match="broken.json cannot be read"):
        load_problems(str(path), flags(), LetterTokenizer(), BUDGET, "train")


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"prompt": None}, "row 2 has no prompt (column 'prompt'; --data.input_key names another)"),
        ({"prompt": ""}, "row 2 has no prompt"),
        ({"answer": None}, "row 2 has no answer (column 'answer'; --data.label_key names another)"),
        ({"answer": " "}, "row 2 has no answer"),
        ({"answer": float("nan")}, "row 2: the answer must be a finite number, not nan"),
        ({"answer": float("-inf")}, "row 2: the answer must be a finite number, not -inf"),
        ({"demonstrations": ["xyz", "x"]}, "row 2: demonstration 1 has 1 tokens; a prefix needs 2 or more"),
        ({"demonstrations": ["ab"]}, "row 2: demonstration 0 has 1 tokens"),  # two letters, one token
        ({"demonstrations": [""]}, "row 2: demonstration 0 is empty: give a worked demonstration or none"),
        ({"demonstrations": ["xyz", " \n"]}, "row 2: demonstration 1 is empty"),
        ({"demonstrations": ["123456789"]}, "row 2: demonstration 0 has 9 tokens, more than a response may have (8)"),
        # 13 + 8 = 21 > 20
        ({"prompt": "1234567890123"}, "row 2 has a prompt of 13 tokens: with a response of 8 it exceeds data.max_len"),
    ],
)
def test_a_bad_row_is_refused_with_its_number_and_reason(tmp_path: Path, changed: dict, reason: str) -> None:
    assert reason in refusal(tmp_path, good(), good(**changed), good())


def test_the_limits_themselves_are_allowed(tmp_path: Path) -> None:
    """12 + 8 = 20 tokens of 20; a demonstration of 8 of 8, and one of 2."""
    problem = load(tmp_path, good(prompt="123456789012", demonstrations=["12345678", "12"]))[0]
    assert [len(problem.prompt_ids), *map(len, problem.demonstrations)] == [12, 8, 2]


@pytest.mark.parametrize("demonstrations", [[1, 2], ["xyz", None], {"text": "xyz"}, 7])
def test_demonstrations_that_are_no_list_of_strings_are_refused(tmp_path: Path, demonstrations: Any) -> None:
    message = refusal(tmp_path, good(), good(demonstrations=demonstrations))
    assert "row 2: 'demonstrations' must be a list of strings" in message


def test_messages_without_the_chat_template_are_refused(tmp_path: Path) -> None:
    message = refusal(tmp_path, good(prompt=[{"role": "user", "content": "why"}]))
    assert "row 1 has chat messages for a prompt: set --data.apply_chat_template" in message


def test_faults_of_one_kind_are_one_sentence_and_five_kinds_are_named(tmp_path: Path) -> None:
    """Rows 2 to 8 have no answer: one sentence for 7 of them. Of 8 kinds of faults five are named."""
    message = refusal(tmp_path, good(), *(good(answer=None) for _ in range(7)))
    assert message.count("has no answer") == 1 and "row 2 has no answer" in message
    assert message.endswith("; the same in 6 more rows (3, 4, 5, 6, ...)")
    kinds = [good(answer=None), good(prompt=None), good(demonstrations=7), good(answer=True), good(answer=["7", "8"])]
    kinds += [good(demonstrations=[""]), good(prompt=7), good(prompt=["why"])]
    assert refusal(tmp_path, *kinds).endswith("; and 3 more")


def test_one_mistake_in_all_rows_is_one_message_with_a_count(tmp_path: Path) -> None:
    """Sentences that differ in numbers alone are one: each prompt has another length."""
    rows = [good(prompt="x" * (20 + index)) for index in range(2048)]
    message = refusal(tmp_path, *rows, data__max_samples=4000)
    assert message.count("row ") == 1 and "row 1 has a prompt of 20 tokens" in message
    assert message.endswith("; the same in 2047 more rows (2, 3, 4, 5, ...)")


@pytest.mark.parametrize("content", ["", "\n", " \n\n"])
def test_an_empty_file_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "empty.jsonl"
    path.write_text(content)
    with pytest.raises(UserError, match="empty.jsonl holds no rows"):
        load_problems(str(path), flags(), LetterTokenizer(), BUDGET, "train")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"prompt": "wh', "row 2 is not JSON"),
        (b'{"prompt": "\xff"}', "row 2 is not JSON"),
        (b'["why", "7"]', "row 2 is not an object"),
        (b"7", "row 2 is not an object"),
    ],
)
def test_a_broken_line_is_refused_with_file_and_row_number(tmp_path: Path, line: bytes, reason: str) -> None:
    path = tmp_path / "broken.jsonl"
    path.write_bytes(json.dumps(good()).encode() + b"\n" + line + b"\n" + json.dumps(good()).encode() + b"\n")
    with pytest.raises(UserError, match=f"broken.jsonl: {reason}"):
        load_problems(str(path), flags(), LetterTokenizer(), BUDGET, "train")


def test_the_response_budget_must_be_set_and_leave_room_for_a_continuation() -> None:
    assert response_budget(nested({"rollout.max_new_tokens": 2})) == 2
    for missing in (None, 0, 1):
        with pytest.raises(UserError, match="rollout.max_new_tokens must be set"):
            response_budget(nested({"rollout.max_new_tokens": missing}))


def test_a_prefix_may_have_the_tokens_before_the_box(tmp_path: Path) -> None:
    """abcd is 3 tokens (ab is one), the box 9 more: 3 of 12 may be drawn. Without a box all but the last."""
    problem = load_long(tmp_path, good(demonstrations=[BOXED, "xyz"]))[0]
    assert [len(ids) for ids in problem.demonstrations] == [3 + 9, 3]
    assert problem.limits == (3, 2)


def test_the_switch_lets_prefixes_reach_the_answer(tmp_path: Path) -> None:
    assert load_long(tmp_path, good(demonstrations=[BOXED]), prefix__stop_before_answer=False)[0].limits == (11,)


def load_long(tmp_path: Path, *rows: dict, counts: Counter | None = None, **changed: Any) -> list[Problem]:
    """With room for the box: a budget of 20, a context of 40."""
    path = write(tmp_path / "set.jsonl", list(rows))
    return load_problems(path, flags(data__max_len=40, **changed), LetterTokenizer(), 20, "train", counts)


def test_the_token_that_merges_across_the_cut_is_left_out(tmp_path: Path) -> None:
    """The tokenizer of this test merges "a" with what follows: "xa" + box begins x, a\\. Only x is before the box."""

    class Merging(LetterTokenizer):
        def __call__(self, texts: list[str], add_special_tokens: bool = True) -> dict[str, list[list[int]]]:
            return {"input_ids": [[ord(c) for c in text.replace("a\\", chr(501))] for text in texts]}

    path = write(tmp_path / "set.jsonl", [good(demonstrations=["xa\\boxed{7}"])])
    problem = load_problems(path, flags(data__max_len=40), Merging(), 20, "train")[0]
    assert problem.demonstrations[0].tolist() == [ord("x"), 501, *ids("boxed{7}")]
    assert problem.limits == (1,)


def test_what_is_capped_or_begins_with_its_answer_is_counted(tmp_path: Path) -> None:
    counts: Counter = Counter()
    problem = load_long(tmp_path, good(demonstrations=[BOXED, "\\boxed{7}", "xyz"]), counts=counts)[0]
    assert problem.limits == (3, 0, 2)
    assert +counts == {CAPPED: 1, UNUSABLE: 1}


def test_long_prompts_are_dropped_and_counted_where_the_flag_says_so(tmp_path: Path) -> None:
    """13 + 8 = 21 > 20 goes, 12 + 8 stays; the ids of the others keep their row numbers."""
    counts: Counter = Counter()
    rows = [good(), good(prompt="1234567890123"), good(prompt="123456789012")]
    path = write(tmp_path / "set.jsonl", rows)
    problems = load_problems(path, flags(data__long_prompts="drop"), LetterTokenizer(), BUDGET, "train", counts)
    assert [problem.id for problem in problems] == ["set-1", "set-3"]
    assert +counts == {LONG_PROMPTS: 1}


def test_a_set_of_nothing_but_long_prompts_is_refused_even_then(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="every prompt is too long and was dropped"):
        load(tmp_path, good(prompt="1234567890123"), data__long_prompts="drop")


def test_long_demonstrations_are_dropped_and_counted(tmp_path: Path) -> None:
    counts: Counter = Counter()
    path = write(
        tmp_path / "set.jsonl", [good(demonstrations=["123456789", "xyz"]), good(demonstrations=["123456789"])]
    )
    changed = flags(prefix__long_demonstrations="drop")
    problems = load_problems(path, changed, LetterTokenizer(), BUDGET, "train", counts)
    assert [[ids.size for ids in problem.demonstrations] for problem in problems] == [[3], []]
    assert +counts == {LONG_DROPPED: 2}


def test_truncated_demonstrations_keep_their_length_but_give_prefixes_of_budget_less_one(tmp_path: Path) -> None:
    """9 tokens, budget 8: a ratio of 9, a prefix of 7 at most, so that 1 token is left. 8 of 8 is not long."""
    counts: Counter = Counter()
    path = write(tmp_path / "set.jsonl", [good(demonstrations=["123456789", "12345678"])])
    changed = flags(prefix__long_demonstrations="truncate")
    problem = load_problems(path, changed, LetterTokenizer(), BUDGET, "train", counts)[0]
    assert ([ids.size for ids in problem.demonstrations], problem.limits) == ([9, 8], (7, 7))
    assert +counts == {LONG_TRUNCATED: 1}


def test_two_rows_of_one_id_are_refused_with_both_places(tmp_path: Path) -> None:
    message = refusal(tmp_path, good(id="one"), good(), good(id="one"))
    assert f"row 3 has the id 'one' of row 1 of {tmp_path / 'set.jsonl'}" in message and "share" in message


def test_two_files_of_one_name_have_the_same_default_ids_and_are_refused(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    names = [write(tmp_path / folder / "set.jsonl", [good()]) for folder in ("a", "b")]
    with pytest.raises(UserError, match="row 1 has the id 'set-1' of row 1 of .*a/set.jsonl.*rename a file"):
        load_problems(",".join(names), flags(), LetterTokenizer(), BUDGET, "train")


def test_a_share_of_the_problems_keeps_its_demonstrations_and_smaller_shares_lie_within(tmp_path: Path) -> None:
    """Of 400 problems 10 % is 40, give or take 3 standard deviations (6 each); the others are there without."""
    path = write(tmp_path / "set.jsonl", [good() for _ in range(400)])
    kept = {}
    for share in (0.0, 0.01, 0.1, 0.5, 1.0):
        counts: Counter = Counter()
        changed = flags(data__max_samples=400, prefix__demonstration_fraction=share)
        problems = load_problems(path, changed, LetterTokenizer(), BUDGET, "train", counts)
        kept[share] = {problem.id for problem in problems if problem.demonstrations}
        assert len(problems) == 400 and counts[WITHHELD] == 400 - len(kept[share])
    assert kept[0.0] < kept[0.01] < kept[0.1] < kept[0.5] < kept[1.0]
    assert (len(kept[0.0]), len(kept[1.0])) == (0, 400)
    assert abs(len(kept[0.1]) - 40) < 18 and abs(len(kept[0.5]) - 200) < 30


def test_another_seed_chooses_another_share(tmp_path: Path) -> None:
    path = write(tmp_path / "set.jsonl", [good() for _ in range(60)])
    chosen = []
    for seed in (1, 1, 2):
        changed = flags(prefix__demonstration_fraction=0.5, train__seed=seed)
        problems = load_problems(path, changed, LetterTokenizer(), BUDGET, "train")
        chosen.append([problem.id for problem in problems if problem.demonstrations])
    assert chosen[0] == chosen[1] != chosen[2]


def test_held_out_problems_are_read_without_their_demonstrations(tmp_path: Path) -> None:
    """So that one that is too long for a prefix does not keep a set from being evaluated."""
    path = write(tmp_path / "set.jsonl", [good(demonstrations=["123456789"])])
    assert load_problems(path, flags(), LetterTokenizer(), BUDGET, "train", held_out=True)[0].demonstrations == ()


@pytest.mark.parametrize(
    ("prompt", "reason"),
    [
        ([{"role": "user"}], "message 0 has no text under 'content'"),
        ([{"content": "why"}], "message 0 has no text under 'role'"),
        (["why"], "message 0 is str"),
        ({"role": "user", "content": "why"}, "it is dict"),
        (7, "it is int"),
        ([{"role": "user", "content": "why"}, {"role": "assistant", "content": "7"}], "ends with the assistant's"),
    ],
)
def test_a_prompt_that_is_no_text_and_no_chat_is_refused(tmp_path: Path, prompt: Any, reason: str) -> None:
    assert reason in refusal(tmp_path, good(prompt=prompt), data__apply_chat_template=True)


def test_half_a_surrogate_pair_is_refused(tmp_path: Path) -> None:
    """json.dumps writes it as an escape, json.loads reads it back: only an encoder finds it."""
    assert "row 1 holds half a surrogate pair" in refusal(tmp_path, good(demonstrations=["x\ud800yz"]))


def test_a_pass_rate_of_the_row_reaches_its_problem(tmp_path: Path) -> None:
    """0 is a rate, null and no column are none; 1 may be written as an integer."""
    rows = [good(pass_rate=0.375), good(pass_rate=0), good(pass_rate=1), good(pass_rate=None), good()]
    assert [problem.pass_rate for problem in load(tmp_path, *rows)] == [0.375, 0.0, 1.0, None, None]


@pytest.mark.parametrize("rate", [-0.1, 1.5, 37.5, "0.5", True, float("nan"), [0.5]])
def test_a_pass_rate_that_is_no_share_is_refused(tmp_path: Path, rate: Any) -> None:
    said = refusal(tmp_path, good(), good(pass_rate=rate))
    assert f"row 2: 'pass_rate' must be a share of right samples in [0, 1], not {rate!r}" in said


def test_limits_and_demonstrations_belong_together() -> None:
    with pytest.raises(ValueError, match="1 demonstrations but 0 limits"):
        Problem("p", "s", "a", np.zeros(1), (np.zeros(3),))


def test_a_parquet_table_and_a_folder_hold_what_the_lines_hold(tmp_path: Path) -> None:
    """Chat prompts, several demonstrations, and a row whose list is null."""
    datasets = pytest.importorskip("datasets")
    chat = [{"role": "system", "content": "S"}, {"role": "user", "content": "why"}]
    rows = [good(id="a", prompt=chat, demonstrations=["xy", "zw"]), good(id="b", prompt=chat, demonstrations=None)]
    table = datasets.Dataset.from_list(rows)
    table.to_parquet(str(tmp_path / "set.parquet"))
    table.save_to_disk(str(tmp_path / "set"))
    names = [write(tmp_path / "set.jsonl", rows), str(tmp_path / "set.parquet"), str(tmp_path / "set")]
    changed = flags(data__apply_chat_template=True)
    for name in names:
        first, second = load_problems(name, changed, LetterTokenizer(), BUDGET, "train")
        assert (first.id, second.id) == ("a", "b")
        assert first.prompt_ids.tolist() == ids("s:S;u:why;a:")
        assert [found.tolist() for found in first.demonstrations] == [ids("xy"), ids("zw")]
        assert (first.limits, second.demonstrations) == ((1, 1), ())


def test_a_teacher_is_shown_the_prompt_around_each_demonstration_that_is_kept(tmp_path: Path) -> None:
    """Of texts and of chat messages; the shown text goes through the same template as the prompt alone."""
    shown = {"teacher__context": "demonstration", "prefix__stop_before_answer": False}
    rows = [{"prompt": "q", "answer": "7", "demonstrations": ["xyz", "x" * 9, "{prompt}"]}]
    (problem,) = load(tmp_path, *rows, **shown, prefix__long_demonstrations="drop", data__input_template="<{}>")
    assert [list(one) for one in problem.shown] == [ids("<xyz!q>"), ids("<{prompt}!q>")]
    assert len(problem.demonstrations) == 2 and list(problem.prompt_ids) == ids("<q>")
    messages = [{"role": "system", "content": "s"}, {"role": "user", "content": "q"}]
    (chat,) = load(tmp_path, rows[0] | {"prompt": messages, "demonstrations": "xyz"}, **shown, **CHAT)
    assert list(chat.shown[0]) == ids("s:s;u:xyz!q;a:") and list(chat.prompt_ids) == ids("s:s;u:q;a:")
    assert load(tmp_path, *rows, prefix__long_demonstrations="drop")[0].shown == ()


CHAT = {"data__apply_chat_template": True}
