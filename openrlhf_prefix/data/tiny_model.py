"""The embedded base model: a Qwen2 of 0.9M parameters that can work through a problem but rarely does.

It is warmed up on fresh problems of its task in two styles of answer: worked (the steps, then the boxed answer) and
guessed (the answer at once). The first part of the warm-up is mostly worked, which is the harder to learn; the
last part is nearly all guesses, so that sampling at temperature 1 seldom starts with a step. The base is thus weak
for a reason that reinforcement learning can repair: the ability is there, the habit is not.

The folder is an ordinary checkpoint: `AutoModelForCausalLM`, `AutoTokenizer` and vLLM load it.
"""

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm
from transformers import GenerationConfig, Qwen2Config, Qwen2ForCausalLM, Qwen2Tokenizer

from openrlhf_prefix.data.lessons import Lesson, lessons_of
from openrlhf_prefix.data.tiny_tokenizer import END, render_prompt

MANIFEST = "model.json"
VERSION = 1  # to be raised when the same parameters would no longer give the same weights
IGNORED = -100


@dataclass(frozen=True)
class WarmUp:
    """How the base model is made; every field is part of the cache key."""

    steps: int = 480
    batch_size: int = 32
    learning_rate: float = 4e-3
    guesses: float = 0.2  # share of guessed answers in the first part
    late_guesses: float = 0.985  # share of guessed answers in the last part
    late_part: float = 1 / 6
    layers: int = 4
    hidden_size: int = 128
    head_dim: int = 32  # vLLM's CPU attention wants a multiple of 32; 4 heads learn the look-ups sooner than 2
    initializer_range: float = 0.08  # Qwen2's 0.02 is meant for wider models and starts slowly here


# Products before sums take longer to learn than a chain; the habit is stronger there, so that work is seldom tried.
RECIPES = {"chains": WarmUp(), "precedence": WarmUp(steps=720, late_guesses=0.99)}
TEXT = WarmUp(steps=900)  # tasks of reasoning-gym
# Another model of the same vocabulary, 3.4M parameters, that works every problem out.
TEACHER = {"guesses": 0.0, "late_guesses": 0.0, "hidden_size": 256, "learning_rate": 2e-3, "initializer_range": 0.06}


def recipe_of(task: str, teacher: bool = False) -> WarmUp:
    recipe = RECIPES.get(task, TEXT)
    return replace(recipe, **TEACHER) if teacher else recipe  # type: ignore[arg-type]


def make_untrained_model(tokenizer: Qwen2Tokenizer, recipe: WarmUp) -> Qwen2ForCausalLM:
    """Random weights, from the current state of torch's generator."""
    heads = recipe.hidden_size // recipe.head_dim
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=recipe.hidden_size,
        intermediate_size=3 * recipe.hidden_size,
        num_hidden_layers=recipe.layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        head_dim=recipe.head_dim,  # type: ignore[call-arg]  # kept as any further field is, and read by Qwen2
        initializer_range=recipe.initializer_range,
        max_position_embeddings=tokenizer.model_max_length,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return Qwen2ForCausalLM(config)


def _encode(tokenizer: Qwen2Tokenizer, examples: list[tuple[str, str]]) -> tuple[Tensor, Tensor]:
    """(prompt, response) texts to ids and labels, both (B, T), padded on the right; only responses have labels."""
    prompts = [tokenizer(render_prompt(tokenizer, prompt)).input_ids for prompt, _ in examples]
    responses = [tokenizer(response + END).input_ids for _, response in examples]
    rows = [prompt + response for prompt, response in zip(prompts, responses, strict=True)]
    ids = torch.full((len(rows), max(map(len, rows))), tokenizer.pad_token_id)
    labels = torch.full_like(ids, IGNORED)
    for index, (row, prompt) in enumerate(zip(rows, prompts, strict=True)):
        ids[index, : len(row)] = torch.tensor(row)
        labels[index, len(prompt) : len(row)] = ids[index, len(prompt) : len(row)]
    return ids, labels


def _warm_up(
    model: Qwen2ForCausalLM,
    tokenizer: Qwen2Tokenizer,
    recipe: WarmUp,
    lessons: Iterator[Lesson],
    rng: Random,
    progress: bool,
) -> None:
    """Supervised training, in place. Padding on the right needs no attention mask: attention is causal."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate, betas=(0.9, 0.95), weight_decay=0.01)
    rise, last = min(20, recipe.steps), recipe.steps * (1 - recipe.late_part)
    # The last part is gentle: it is to change the habit (the first token of the answer), not the ability.
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / rise, max(0.05, 1 - step / last))
    )
    bar = tqdm(range(recipe.steps), desc="warm-up of the base model", disable=not progress)
    for step in bar:
        share = recipe.late_guesses if step >= last else recipe.guesses
        examples = []
        for lesson in islice(lessons, recipe.batch_size):
            examples.append((lesson.prompt, lesson.guess if rng.random() < share else lesson.worked))
        ids, labels = _encode(tokenizer, examples)
        logits = model(input_ids=ids).logits[:, :-1]
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORED)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)


def make_model(
    directory: str | Path,
    task_directory: str | Path | None = None,
    seed: int = 0,
    recipe: WarmUp | None = None,
    progress: bool = True,
) -> Path:
    """Make the base model in `directory`, unless this very model is there already; return the directory.

    Its warm-up has the difficulty of the task and never shows a held-out problem of it. The same parameters give the
    same weights, bit for bit, on the same machine with the same number of torch threads.
    """
    directory = Path(directory)
    rng = Random(f"warm-up/{seed}")
    lessons = lessons_of(Path(task_directory) if task_directory else None, seed, rng)
    recipe = recipe or recipe_of(lessons.task)
    manifest = {"version": VERSION, "seed": seed, **lessons.identity, **asdict(recipe)}
    path = directory / MANIFEST
    if path.exists() and json.loads(path.read_text(encoding="ascii")) == manifest:
        return directory
    if directory.exists() and any(directory.iterdir()) and not path.exists():
        raise ValueError(f"{directory} holds something else than a model made here: choose a new or empty directory")

    tokenizer = lessons.tokenizer()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = make_untrained_model(tokenizer, recipe)
    _warm_up(model, tokenizer, recipe, lessons.drawn, rng, progress)
    _publish(directory, model, tokenizer, manifest)
    return directory


def _publish(directory: Path, model: Qwen2ForCausalLM, tokenizer: Qwen2Tokenizer, manifest: Any) -> None:
    """Save beside `directory`, then rename: a reader never sees half a checkpoint."""
    temporary = directory.with_name(f".{directory.name}.{os.getpid()}")
    model.generation_config = GenerationConfig(
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, do_sample=True
    )
    model.bfloat16().save_pretrained(temporary)
    tokenizer.save_pretrained(temporary)
    (temporary / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="ascii")
    shutil.rmtree(directory, ignore_errors=True)  # os.replace accepts an empty target only
    os.replace(temporary, directory)
