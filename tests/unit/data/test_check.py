"""A check names every fault with its file and row, and ends with exit code 1 when one of them is an error."""

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pyarrow")
pytest.importorskip("numpy")

from openrlhf_prefix import cli  # noqa: E402
from openrlhf_prefix.data.check import CHUNK, Settings, survey  # noqa: E402
from openrlhf_prefix.data.findings import (  # noqa: E402
    BARE,
    BROKEN,
    DOUBLED,
    GOLDS,
    IDS,
    LEAKED,
    LONG,
    REJECTED,
    REPEATED,
    Survey,
    table,
)
from openrlhf_prefix.errors import UserError  # noqa: E402


class LetterTokenizer:
    """One id a letter; the chat template opens a thought."""

    def __call__(self, texts: list[str], add_special_tokens: bool) -> dict[str, list[list[int]]]:
        return {"input_ids": [[ord(letter) for letter in text] for text in texts]}

    def decode(self, ids: list[int]) -> str:
        return "".join(map(chr, ids))

    def apply_chat_template(self, messages: list[dict], tokenize: bool, add_generation_prompt: bool) -> str:
        return "".join(f"{message['content']};" for message in messages) + "<think>\n"


def good(prompt: str = "why", **changed: Any) -> dict:
    return {"prompt": prompt, "answer": "7", "demonstrations": ["xyz \\boxed{7}"], **changed}


def write(path: Path, *rows: dict | str) -> str:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return str(path)


def found(tmp_path: Path, *rows: dict | str, evaluation: Survey | None = None, **settings: Any) -> Survey:
    return survey(write(tmp_path / "set.jsonl", *rows), Settings(**settings), evaluation)


def only(survey: Survey, kind: str) -> str:
    """The one finding there is, which must be of this kind."""
    assert {name for name, sentences in survey.findings.items() if sentences} == {kind}
    (sentence,) = survey.findings[kind]
    assert sentence.startswith(survey.name)
    return sentence


def test_a_clean_file_has_no_findings(tmp_path: Path) -> None:
    clean = found(tmp_path, good("a"), good("b"))
    assert not any(clean.findings.values()) and clean.errors == 0 and (clean.rows, clean.demonstrations) == (2, 2)


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ("{", "row 2 is not JSON"),
        (good(prompt=""), "row 2 has no prompt"),
        ({"prompt": "b"}, "row 2 has no answer"),
        (good("b", answer=["7", "8"]), "row 2: the answer must be text or a number, not 2 answers"),
        (
            good("b", demonstrations={"text": "xyz"}),
            "row 2: 'demonstrations' must be a list of strings, or one string",
        ),
        (good("b", demonstrations=[""]), "row 2: demonstration 0 is empty"),
    ],
)
def test_a_row_that_breaks_the_contract_is_an_error(tmp_path: Path, row: Any, sentence: str) -> None:
    broken = found(tmp_path, good("a"), row, good("c"))
    assert sentence in only(broken, BROKEN)
    assert (broken.errors, broken.rows, len(broken.prompt_lengths)) == (1, 3, 2)


def test_an_id_used_twice_is_an_error_over_chunks_too(tmp_path: Path) -> None:
    rows = [good(f"p{index}", id=f"i{index}") for index in range(CHUNK + 1)]
    assert f"row {CHUNK + 2} has the id 'i0' of row 1" in only(found(tmp_path, *rows, good("new", id="i0")), IDS)


def test_a_repeated_problem_is_a_warning_whatever_its_spaces_case_and_system_prompt(tmp_path: Path) -> None:
    chat = [{"role": "system", "content": "S"}, {"role": "user", "content": " WHY  so"}]
    repeated = found(tmp_path, good("why so"), good(chat))
    assert "row 2 asks what row 1 asks" in only(repeated, REPEATED) and repeated.errors == 0


def test_a_training_problem_of_the_evaluation_set_is_an_error(tmp_path: Path) -> None:
    held_out = survey(write(tmp_path / "eval.jsonl", good("a"), good("b")), Settings())
    leaked = found(tmp_path, good("c"), good("B"), evaluation=held_out)
    assert f"row 2 asks what row 2 of {tmp_path / 'eval.jsonl'} asks" in only(leaked, LEAKED)


def test_a_problem_without_demonstrations_is_a_warning(tmp_path: Path) -> None:
    assert "row 1 has no demonstration" in only(found(tmp_path, good(demonstrations=[])), BARE)


def test_lengths_are_held_against_the_context(tmp_path: Path) -> None:
    """Template: a prompt of 3 letters and ";<think>\\n" are 12. 12 + 13 = 25 fits 25, one letter more does not; the
    demonstration has 13 of 13 letters, one more is too long."""
    limits = {"tokenizer": LetterTokenizer(), "max_len": 25, "budget": 13}
    assert not found(tmp_path, good("why"), **limits).errors
    assert "row 1 has a prompt of 13 tokens" in only(found(tmp_path, good("whyy"), **limits), LONG)
    long = found(tmp_path, good(demonstrations=["xyzz \\boxed{7}"]), **limits)
    assert "row 1 has a demonstration (0) of 14 tokens, above 13" in only(long, LONG)


def test_a_template_of_text_is_counted(tmp_path: Path) -> None:
    """ "Q {}!" around 3 letters are 6."""
    bare = found(tmp_path, good("why"), tokenizer=LetterTokenizer(), chat=False, template="Q {}!")
    assert bare.prompt_lengths == [6] and "Q why!" in bare.examples[0]


def test_a_thought_that_the_template_has_opened_already_is_a_warning(tmp_path: Path) -> None:
    doubled = found(tmp_path, good(demonstrations=["<think> x"]), tokenizer=LetterTokenizer())
    assert "row 1 opens demonstration 0 with <think>" in only(doubled, DOUBLED)


def test_the_examples_mark_the_cut_before_the_answer(tmp_path: Path) -> None:
    for tokenizer in (None, LetterTokenizer()):
        example = found(tmp_path, good(), tokenizer=tokenizer).examples[0]
        assert "prefix     xyz \n  -- the latest cut --\n  left       \\boxed{7}" in example


def test_percentiles_are_lengths_that_occur(tmp_path: Path) -> None:
    """Of prompts with 1 to 10 letters, p50 is 6 (the next one up), p90 and p99 are 10."""
    rows = [good("x" * length, demonstrations=["ab"]) for length in range(1, 11)]
    text = table([found(tmp_path, *rows)], "characters")
    assert "6 / 10 / 10 / 10" in text and "2 / 2 / 2 / 2" in text


def test_rewards_that_are_learnt_need_no_answers_and_those_of_an_evaluation_still_do(tmp_path, capsys) -> None:
    bare = {name: value for name, value in good().items() if name != "answer"}
    train, held_out = write(tmp_path / "train.jsonl", bare), write(tmp_path / "eval.jsonl", good("another"))
    with pytest.raises(SystemExit):
        cli.main(["data", "check", train])
    assert "row 1 has no answer" in capsys.readouterr().out
    cli.main(["data", "check", train, "--no_answers", "--eval", held_out])
    assert capsys.readouterr().out.endswith("0 errors\n")
    with pytest.raises(SystemExit):
        cli.main(
            ["data", "check", train, "--no_answers", "--eval", write(tmp_path / "bare.jsonl", {**bare, "id": "2"})]
        )
    assert "row 1 has no answer" in capsys.readouterr().out


def test_the_verb_prints_and_ends_with_1_after_an_error_and_with_0_after_warnings(tmp_path, capsys) -> None:
    bad, fair = write(tmp_path / "bad.jsonl", good(), "{"), write(tmp_path / "fair.jsonl", good(demonstrations=[]))
    cli.main(["data", "check", fair, "--no_verify"])
    assert "warning: " in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        cli.main(["data", "check", bad, "--no_verify"])
    printed = capsys.readouterr().out
    assert ended.value.code == 1
    assert f"error: {bad}: row 2 is not JSON" in printed and printed.endswith("\n1 error\n")


def test_the_verb_shows_demonstrations_of_the_evaluation_set_without_asking_for_them(tmp_path, capsys) -> None:
    """Two of three rows have some, one of another kind: no run reads them, so nothing about them is an error."""
    rows = [good("a"), {"prompt": "b", "answer": "7"}, good("c", demonstrations=["x", "", 7, "y"])]
    held_out = write(tmp_path / "eval.jsonl", *rows)
    cli.main(["data", "check", write(tmp_path / "set.jsonl", good()), "--eval", held_out, "--no_verify"])
    printed = capsys.readouterr().out
    cells = {line[:31].strip(): line.split()[-2:] for line in printed.splitlines()}
    assert cells["demonstrations"] == ["1", "3"]
    assert cells["warning: no demonstration"] == ["0", "-"]
    assert "\n0 errors" in printed


def test_one_mistake_in_all_rows_is_one_line_with_a_count(tmp_path, capsys) -> None:
    path = write(tmp_path / "set.jsonl", *[{"prompt": f"p{index}"} for index in range(2048)])
    with pytest.raises(SystemExit):
        cli.main(["data", "check", path, "--no_verify"])
    errors = [line for line in capsys.readouterr().out.splitlines() if line.startswith(f"error: {path}: row")]
    assert len(errors) == 1
    assert "row 1 has no answer" in errors[0] and "the same in 2047 more rows (2, 3, 4, 5, ...)" in errors[0]


def test_columns_of_a_published_layout_are_answered_with_its_reader(tmp_path, capsys) -> None:
    path = write(tmp_path / "set.jsonl", {"question": "1+2?", "final_answer": "3", "r1_solution_1": "so \\boxed{3}"})
    with pytest.raises(SystemExit):
        cli.main(["data", "check", path, "--no_verify"])
    assert f"openrlhf-prefix data import deepmath {path} OUT.jsonl" in capsys.readouterr().out


class Strict(LetterTokenizer):
    """Templates as they are found: one without a system role, and one that ignores the generation prompt."""

    def apply_chat_template(self, messages: list[dict], tokenize: bool, add_generation_prompt: bool) -> str:
        if messages[0]["role"] == "system":
            raise ValueError("System role not supported")
        return f"[{messages[-1]['content']}]"


def test_a_prompt_that_the_chat_template_refuses_is_an_error_with_its_row(tmp_path: Path) -> None:
    chat = [{"role": "system", "content": "S"}, {"role": "user", "content": "who"}]
    refused = found(tmp_path, good("why"), good(chat), tokenizer=Strict())
    sentence = only(refused, BROKEN)
    assert "row 2: the tokenizer's chat template refuses its messages (system, user): System role not" in sentence
    assert refused.errors == 1 and refused.rows == 2


def test_a_template_that_ignores_the_generation_prompt_is_a_warning(tmp_path: Path) -> None:
    (sentence,) = found(tmp_path, good(), tokenizer=Strict()).advice
    assert "ignores the generation prompt: a prompt ends with '[1+2?]'" in sentence
    asking = type("Asking", (Strict,), {})
    asking.apply_chat_template = lambda self, messages, tokenize, add_generation_prompt: (
        f"[{messages[-1]['content']}]" + ("a:" if add_generation_prompt else "")
    )
    assert not found(tmp_path, good(), tokenizer=asking()).advice


def test_a_demonstration_of_one_token_is_the_error_that_a_run_gives(tmp_path: Path) -> None:
    short = found(tmp_path, good(demonstrations=["x"]), tokenizer=LetterTokenizer())
    assert "row 1: demonstration 0 has 1 tokens; a prefix needs 2 or more" in only(short, BROKEN)


def test_what_was_not_looked_at_is_a_dash_and_no_zero(tmp_path: Path) -> None:
    text = table([found(tmp_path, good())], "characters")
    cells = {line.split(": ")[1].rsplit(maxsplit=1)[0]: line.split()[-1] for line in text.splitlines() if ": " in line}
    assert {name for name, cell in cells.items() if cell == "-"} == {GOLDS, LONG, REJECTED, LEAKED, DOUBLED}


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["absent.jsonl"], "there is no 'absent.jsonl'"),
        (["set.jsonl", "--max_len", "9"], "belong together"),
        (["set.jsonl", "--input_template", "Q: "], "'Q: ' has no {}"),
        (["set.jsonl", "--max_len", "9", "--max_new_tokens", "3"], "name the tokenizer's model in --model"),
    ],
)
def test_a_wrong_command_ends_with_2(tmp_path, monkeypatch, capsys, words, sentence) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "set.jsonl", good())
    with pytest.raises(SystemExit) as ended:
        cli.main(["data", "check", *words, "--no_verify"])
    assert ended.value.code == 2 and sentence in capsys.readouterr().err


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="set.jsonl holds no rows"):
        found(tmp_path)
