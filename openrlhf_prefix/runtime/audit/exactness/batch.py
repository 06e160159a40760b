"""One fixed batch of awkward rows, and the parameter change it must cause, worked out row by row.

The rows: plain ones, prefixed ones, lengths from 1 to 40 tokens, a group of equal rewards (advantage 0), a row that
was cut at the budget, a row whose prefix is all but one token. The reference is written for reading, not for speed: no
padding, no micro-batches, no code of algorithm/. Whatever engine, split and order trains on these rows has to move the
parameters by the same amount.
"""

import math
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

VOCABULARY = 96
BUDGET = 40
STEP_ROWS = 8  # the last optimizer step is cut short: 12 rows = 8 + 4
LEARNING_RATE = 1.0
TEMPERATURE = 0.8
CLIP_LOW, CLIP_HIGH, DUAL_CLIP = 0.2, 0.28, 3.0
BAND = (0.8, 1.25)  # train/rollout correction, tokens outside are dropped
TEACHER_CLAMP = 0.5
# prompt, prefix and continuation tokens; advantage of the continuation and of the kept prefix tokens
SHAPES = (
    (3, 0, 40, 0.75, 0.0),  # cut at the budget
    (9, 0, 2, -0.25, 0.0),
    (4, 0, 1, -0.25, 0.0),
    (5, 12, 9, 1.0, 0.75),
    (6, 0, 17, 0.0, 0.0),  # of a group of equal rewards
    (6, 0, 5, 0.0, 0.0),
    (2, 31, 1, -0.4, -0.4),  # nearly all prefix
    (7, 3, 22, 0.6, 0.6),
    (3, 0, 8, -0.9, 0.0),
    (8, 20, 3, -1.0, -1.0),
    (4, 0, 30, 0.5, 0.0),
    (5, 0, 1, 0.9, 0.0),
)


@dataclass(frozen=True)
class Terms:
    """Which terms the loss has beside the policy's, and what the demonstrations of the batch are."""

    divisor: str = "token-mean"
    kl_coef: float = 0.05
    entropy_coef: float | None = 0.01
    correction: bool = True
    clip: bool = True
    imitation: str = "policy"  # of prefix tokens: "policy", or a row of WEIGHTS
    imitation_coef: float = 0.7
    imitation_mean: str = "tokens"  # divisors of the two terms: each its own tokens, or all as the "policy"
    convex: bool = False
    whole: bool = False  # prefixed rows are demonstrations to their end, with nothing sampled
    teacher_coef: float = 0.0  # of the rows that a teacher has judged; 0: there is none
    contrast: bool = False  # rows have a c each, by which their log-probs are multiplied
    on_policy: bool = False  # the policy before the update is the one that trains: no row says what it was


# What the methods multiply grad log p of a demonstration token with, from their definitions: p its probability, A its
# advantage, H the mean entropy of its row, r half of log p less the reference's log p.
WEIGHTS = {
    "nll": lambda p, A, H, r: 1.0,
    "dft": lambda p, A, H, r: p,
    "phi": lambda p, A, H, r: p * (1 - p),
    "trust": lambda p, A, H, r: min(1.0, p / 0.1),
    "luffy": lambda p, A, H, r: A * 0.1 * p / (p + 0.1) ** 2,
    "srft": lambda p, A, H, r: 0.5 * math.exp(-H) + A * 0.1 * p / (p + 0.1) ** 2,
    "f_tv": lambda p, A, H, r: 1.0,
    "f_pearson": lambda p, A, H, r: max(1 - r / 2, 0.0),
    "f_hellinger": lambda p, A, H, r: 1 / (1 + max(r, -0.9)) ** 2,
    "f_js": lambda p, A, H, r: math.exp(-max(r, -0.6)) / (2 - math.exp(-max(r, -0.6))),
    "f_kl": lambda p, A, H, r: min(math.exp(-r), 10.0),
}


@dataclass(frozen=True)
class Row:
    tokens: torch.Tensor  # (T,) prompt, prefix, continuation
    prompt: int  # its length
    prefix: int
    advantages: torch.Tensor  # (A,) of the action tokens
    old: torch.Tensor  # (A,) log-probs of the policy before the update
    rollout: torch.Tensor  # (A,) of the engine; meaningless on prefix tokens
    base: torch.Tensor  # (A,) of the reference model
    entropy: float  # mean over its tokens before the update
    teacher: torch.Tensor  # (A,) log-probs by a teacher; NaN for prefix tokens, the last token, and every third row
    contrast: float  # c, above 0 for a demonstration and 0 for every fourth row


def make_model(folder: Path, tied: bool = False) -> None:
    """A Qwen2 of 2 layers and 30k parameters with fixed random weights, saved as an HF folder.

    Args:
        tied: whether its head is the table of its embeddings.
    """
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(7)
    config = Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        tie_word_embeddings=tied,
    )
    Qwen2ForCausalLM(config).save_pretrained(folder)


def load_model(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="sdpa")


def make_rows(model: Any, whole: bool = False, on_policy: bool = False) -> list[Row]:
    """The rows; log-probs lie around the model's own, so that some tokens are clipped and some are dropped."""
    generator, of_teacher = torch.Generator().manual_seed(11), torch.Generator().manual_seed(12)
    rows = []
    for prompt, prefix, continuation, advantage, of_prefix in SHAPES:
        if whole and prefix:
            prefix, continuation = prefix + continuation, 0
        tokens = torch.randint(1, VOCABULARY, (prompt + prefix + continuation,), generator=generator)
        with torch.no_grad():
            log_probs, _ = _forward(model, tokens, prompt)
        noise = torch.randn(4, len(log_probs), generator=generator)
        kept = noise[3, :prefix] > 0.8  # about a fifth
        old = log_probs if on_policy else log_probs + 0.15 * noise[0]
        teacher = log_probs + 0.5 * torch.randn(len(log_probs), generator=of_teacher)
        teacher[:prefix] = teacher[-1] = torch.nan
        rows.append(
            Row(
                tokens=tokens,
                prompt=prompt,
                prefix=prefix,
                advantages=torch.cat([of_prefix * kept, torch.full((continuation,), advantage)]),
                old=old,
                rollout=torch.cat([torch.zeros(prefix), (old + 0.15 * noise[1])[prefix:]]),
                base=log_probs + 0.3 * noise[2],
                entropy=0.2 * len(rows),
                teacher=teacher if len(rows) % 3 else torch.full_like(teacher, torch.nan),
                contrast=(0.01 if prefix else -0.01) * (len(rows) % 4),
            )
        )
    return rows


def _forward(model: Any, tokens: torch.Tensor, prompt: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(A,) log-probs and entropies of the action tokens of one row."""
    distribution = (model(tokens.unsqueeze(0)).logits[0, :-1] / TEMPERATURE).log_softmax(-1)[prompt - 1 :]
    chosen = distribution.gather(-1, tokens[prompt:].unsqueeze(-1)).squeeze(-1)
    return chosen, -(distribution.exp() * distribution).sum(-1)


def reference_change(model: Any, rows: list[Row], terms: Terms) -> dict[str, torch.Tensor]:
    """Parameters after plain gradient descent on the rows, minus those before; `model` is trained in place."""
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    for start in range(0, len(rows), STEP_ROWS):
        step = rows[start : start + STEP_ROWS]
        total = torch.zeros(())
        for row in step:
            total = total + _row_loss(model, row, step, terms)
        model.zero_grad()
        total.backward()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter -= LEARNING_RATE * parameter.grad
    return {name: parameter.detach() - before[name] for name, parameter in model.named_parameters()}


def _row_loss(model: Any, row: Row, step: list[Row], terms: Terms) -> torch.Tensor:
    """This row's share of the step's loss, token by token as the definitions have it."""
    log_probs, entropies = _forward(model, row.tokens, row.prompt)
    n_all, n_sampled = (sum(len(r.old) - hide * r.prefix for r in step) for hide in (0, 1))
    policy, imitated, sampled_part, taught = [], [], [], []
    for t in range(len(log_probs)):
        sampled, advantage = t >= row.prefix, row.advantages[t]
        if not sampled and terms.imitation != "policy":
            now = float(log_probs[t].detach())
            of_reference = 0.5 * (now - float(row.base[t]))
            weight = WEIGHTS[terms.imitation](math.exp(now), float(advantage), row.entropy, of_reference)
            imitated.append(-weight * log_probs[t])
            continue
        policy.append(_surrogate((log_probs[t] - row.old[t]).exp(), advantage, terms.clip))
        if sampled and terms.correction:
            weight = float((row.old[t] - row.rollout[t]).exp())
            weight = weight if BAND[0] <= weight <= BAND[1] else 0.0
            policy[-1] = weight * policy[-1]
        if terms.teacher_coef and not row.teacher[t].isnan():
            d = (row.teacher[t] - row.old[t]).clamp(-TEACHER_CLAMP, TEACHER_CLAMP)
            taught.append(_surrogate((log_probs[t] - row.old[t]).exp(), d, terms.clip))
            taught[-1] = (weight if terms.correction else 1.0) * taught[-1]
        if sampled:
            toward = row.base[t] - log_probs[t]
            k3 = toward.exp() - 1 - toward
            sampled_part.append(terms.kl_coef * k3 - (terms.entropy_coef or 0.0) * entropies[t])
    apart = terms.imitation != "policy" and terms.imitation_mean == "tokens"
    of_row, of_step = (len(policy), n_sampled) if apart else (len(log_probs), n_all)
    of_policy = _divided(policy, of_row, of_step, step, terms.divisor)
    beside = _divided(sampled_part, len(sampled_part), n_sampled, step, terms.divisor)
    n_taught = sum(int((~r.teacher.isnan()).sum()) for r in step)
    beside = beside + terms.teacher_coef * sum(taught, torch.zeros(())) / max(n_taught, 1)
    if terms.contrast:
        beside = beside - row.contrast * log_probs.sum()
    if terms.imitation == "policy":
        return of_policy + beside
    if terms.imitation_mean == "tokens":
        imitation = sum(imitated) / max(n_all - n_sampled, 1)
    else:
        imitation = _divided(imitated, len(log_probs), n_all, step, terms.divisor)
    kept = 1 - terms.imitation_coef if terms.convex else 1.0
    return kept * of_policy + terms.imitation_coef * imitation + beside


def _surrogate(ratio: torch.Tensor, advantage: torch.Tensor, clip: bool) -> torch.Tensor:
    if not clip:
        return -ratio * advantage
    gain = torch.min(ratio * advantage, ratio.clamp(1 - CLIP_LOW, 1 + CLIP_HIGH) * advantage)
    return -torch.max(gain, DUAL_CLIP * advantage) if advantage < 0 else -gain


def _divided(values: list[torch.Tensor], of_row: int, of_step: int, step: list[Row], divisor: str) -> torch.Tensor:
    """The sum of one row's tokens, divided as the divisor says: `of_row` of the term are in it, `of_step` in all."""
    total = sum(values, torch.zeros(()))
    if divisor == "token-mean":
        return total / max(of_step, 1)
    if divisor == "seq-mean":
        return total / max(of_row, 1) / len(step)
    return total / (len(step) * BUDGET)


def shuffled_within_steps(rows: list[Row], seed: int) -> list[Row]:
    """Every optimizer step keeps its rows, in another order."""
    parts = [rows[start : start + STEP_ROWS] for start in range(0, len(rows), STEP_ROWS)]
    return [row for number, part in enumerate(parts) for row in random.Random(seed + number).sample(part, len(part))]
