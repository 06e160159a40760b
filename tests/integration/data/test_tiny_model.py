"""The embedded base model: its tokenizer, its determinism and its checkpoint, after a few warm-up steps."""

import json
from itertools import islice
from pathlib import Path
from random import Random

import pytest

pytest.importorskip("transformers")

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from openrlhf_prefix import cli
from openrlhf_prefix.data import chains, tasks, tiny_model, tiny_tokenizer
from openrlhf_prefix.data.lessons import lessons_of

FEW_STEPS = tiny_model.WarmUp(steps=2, batch_size=4, layers=2)


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("task")
    tasks.write_task(directory, chains.FAMILY, train=10, heldout=40, min_operations=2, max_operations=2)
    return directory


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, task: Path) -> Path:
    return tiny_model.make_model(tmp_path_factory.mktemp("models") / "base", task, 0, FEW_STEPS, progress=False)


def test_the_template_renders_chatml_and_opens_the_answer() -> None:
    tokenizer = tiny_tokenizer.make_tokenizer(chains.INSTRUCTION)
    expected = "<|im_start|>user\nLeft to right, modulo 10: 1+2<|im_end|>\n<|im_start|>assistant\n"
    assert tiny_tokenizer.render_prompt(tokenizer, "Left to right, modulo 10: 1+2") == expected


def test_any_ids_are_recovered_from_their_text_also_after_reloading(checkpoint: Path) -> None:
    rng = Random("ids")
    for tokenizer in (tiny_tokenizer.make_tokenizer(chains.INSTRUCTION), AutoTokenizer.from_pretrained(checkpoint)):
        for _ in range(100):
            ids = [rng.randrange(len(tokenizer)) for _ in range(30)]
            assert tokenizer(tokenizer.decode(ids)).input_ids == ids


def test_texts_of_the_task_are_recovered_from_their_ids(checkpoint: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    for problem in tasks.split(chains.FAMILY, 50, 0, 0, 3, 6)["train"]:
        text = tiny_tokenizer.render_prompt(tokenizer, problem.prompt) + problem.worked() + tokenizer.eos_token
        assert tokenizer.decode(tokenizer(text).input_ids) == text


def test_the_longest_texts_have_the_documented_lengths() -> None:
    """Six operations. Prompt: 1 + 2*6 digits and operators, instruction, 3 template tokens before and 5 after.

    Demonstration: 6 steps of 6 tokens with their newline, then `\\boxed{`, digit, brace and the end token.
    """
    tokenizer = tiny_tokenizer.make_tokenizer(chains.INSTRUCTION)
    problem = chains.Problem(1, (("+", 2),) * 6)
    assert len(tokenizer(tiny_tokenizer.render_prompt(tokenizer, problem.prompt)).input_ids) == 13 + 1 + 3 + 5
    assert len(tokenizer(problem.worked() + tokenizer.eos_token).input_ids) == 6 * 6 + 4


def test_only_the_answer_and_its_end_token_are_trained_on() -> None:
    tokenizer = tiny_tokenizer.make_tokenizer(chains.INSTRUCTION)
    _, labels = tiny_model._encode(tokenizer, [("1+2", "\\boxed{3}"), ("1", "1+2=3\n\\boxed{3}")])
    texts = [tokenizer.decode(row[row != tiny_model.IGNORED]) for row in labels]
    assert texts == ["\\boxed{3}<|im_end|>", "1+2=3\n\\boxed{3}<|im_end|>"]


def test_the_warm_up_never_draws_a_heldout_problem(task: Path) -> None:
    """10 * 30^2 = 9,000 problems of two operations, 40 held out: 2,000 draws would meet one about 9 times."""
    excluded = {json.loads(line)["prompt"] for line in (task / "heldout.jsonl").read_text().splitlines()}
    drawn = list(islice(lessons_of(task, 0, Random("x")).drawn, 2000))
    assert len(excluded) == 40 and excluded.isdisjoint(lesson.prompt for lesson in drawn)
    assert {len(lesson.worked.splitlines()) for lesson in drawn} == {3}  # two operations and the box


def test_two_builds_have_the_same_weights_and_another_seed_has_not(checkpoint: Path, task: Path) -> None:
    same, other = (
        tiny_model.make_model(checkpoint.parent / f"again{seed}", task, seed, FEW_STEPS, progress=False)
        for seed in (0, 1)
    )
    weights = [(path / "model.safetensors").read_bytes() for path in (checkpoint, same, other)]
    assert weights[0] == weights[1] != weights[2]


def test_the_checkpoint_reloads_as_bfloat16_and_knows_its_end_token(checkpoint: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(checkpoint)
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    assert model.dtype == torch.bfloat16 and model.config.model_type == "qwen2"
    assert model.config.vocab_size == len(tokenizer) and model.config.head_dim % 32 == 0
    assert tokenizer.eos_token == "<|im_end|>"
    assert GenerationConfig.from_pretrained(checkpoint).eos_token_id == tokenizer.eos_token_id


def test_an_identical_model_is_kept_and_a_different_one_is_remade(checkpoint: Path, task: Path) -> None:
    path = tiny_model.make_model(checkpoint.parent / "cached", task, 0, FEW_STEPS, progress=False)
    (path / "marker").touch()
    tiny_model.make_model(path, task, 0, FEW_STEPS, progress=False)
    assert (path / "marker").exists()
    tiny_model.make_model(path, task, 1, FEW_STEPS, progress=False)
    assert not (path / "marker").exists()
    assert [found.name for found in path.parent.glob(".*")] == []


def test_a_teacher_is_larger_never_guesses_and_reads_the_same_vocabulary(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(tiny_model.RECIPES, "chains", FEW_STEPS)
    folder = checkpoint.parent / "taught"
    cli.main(["embed", str(folder), "--model", "teacher", "--train", "4", "--heldout", "4", "--tune", "4"])
    path = folder / "model"
    small, large = (AutoModelForCausalLM.from_pretrained(folder) for folder in (checkpoint, path))
    assert large.num_parameters() > 3 * small.num_parameters()
    recipe = json.loads((path / tiny_model.MANIFEST).read_text())
    assert recipe["guesses"] == recipe["late_guesses"] == 0 and recipe["steps"] == FEW_STEPS.steps
    words = [AutoTokenizer.from_pretrained(folder).get_vocab() for folder in (checkpoint, path)]
    assert words[0] == words[1]


def test_a_task_in_words_gets_a_vocabulary_of_its_own_and_lessons_that_are_not_held_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("reasoning_gym", reason="pip install 'openrlhf_prefix[examples]'")
    monkeypatch.setattr(tiny_model, "TEXT", FEW_STEPS)
    sizes = ["--train", "4", "--heldout", "150", "--tune", "4"]
    # 400 pairs of numbers, 150 of them held out: lessons repeat the others, and 100 would meet a held-out one.
    cli.main(["embed", str(tmp_path), "--task", "reasoning-gym:gcd", "--set", "max_value=20", *sizes])
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    rows = [json.loads(line) for line in (tmp_path / "task" / "heldout.jsonl").read_text().splitlines()]
    for text in (rows[0]["prompt"][0]["content"], rows[0]["demonstrations"][0], "naïve 数"):
        assert tokenizer.decode(tokenizer(text).input_ids) == text
    assert tokenizer.tokenize(" Greatest") == ["Ġ" + "Greatest"]  # a word of the task is one token
    questions = {row["prompt"][0]["content"] for row in rows}
    lessons = list(islice(lessons_of(tmp_path / "task", 0, Random()).drawn, 100))
    assert questions.isdisjoint(lesson.prompt for lesson in lessons)
    assert all(
        lesson.worked.endswith("\n" + lesson.guess) and lesson.guess.startswith("\\boxed{") for lesson in lessons
    )
    recipe = json.loads((tmp_path / "model" / tiny_model.MANIFEST).read_text())
    assert recipe["task"] == "reasoning-gym:gcd" and recipe["settings"] == {"max_value": 20}


def test_a_directory_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(ValueError, match="choose a new or empty directory"):
        tiny_model.make_model(tmp_path, None, 0, FEW_STEPS, progress=False)
    assert (tmp_path / "thesis.txt").exists()


def test_the_default_model_is_small() -> None:
    model = tiny_model.make_untrained_model(tiny_tokenizer.make_tokenizer(chains.INSTRUCTION), tiny_model.WarmUp())
    assert model.num_parameters() < 2_000_000
