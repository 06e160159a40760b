"""KL(base || now): how far training moved a model on its own prompts, which predicts what it forgets.

    KL(base || now) = mean over prompts x and responses y of base, mean over positions t of
                      sum over words v of base(v | x, y_<t) (log base(v | x, y_<t) - log now(v | x, y_<t))

over the whole vocabulary, at temperature 1, in nats a token. The responses are drawn by the base (`sampled`: then its
sum over a response is an unbiased estimate of the KL between the two distributions of responses), or are the file's
demonstrations (`given`). Computed by transformers, one prompt at a time. Source: arXiv 2509.04259.
"""

import argparse
import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import torch

from openrlhf_prefix.data.benchmark import read_tasks
from openrlhf_prefix.data.prompts import encode
from openrlhf_prefix.data.rows import Columns
from openrlhf_prefix.errors import UserError
from openrlhf_prefix.evaluation.intervals import standard_error
from openrlhf_prefix.runtime.evaluate.prepare import ask, check_positions, model_flags
from openrlhf_prefix.settings.model import load_tokenizer

SAMPLED, GIVEN = "sampled", "given"


@dataclass(frozen=True)
class Request:
    """What the other process computes. `responses`: ids, or None to be drawn by the base."""

    base: str
    now: str
    prompts: list[list[int]]
    responses: list[list[int]] | None
    tokens: int  # of a response, at most
    seed: int
    trust_remote_code: bool


def prepare(options: argparse.Namespace, base: str) -> Request:
    """Reads the prompts. Raises UserError for files that cannot be used, and models of two vocabularies."""
    tokenizer = load_tokenizer(model_flags(options))
    try:
        other = load_tokenizer(model_flags(argparse.Namespace(**{**vars(options), "model": base})))
    except UserError as error:
        raise UserError(f"--kl_prompts needs the base's model: {error}") from None
    if tokenizer.get_vocab() != other.get_vocab():
        raise UserError(
            f"--kl_prompts: {options.model} and {base} have different vocabularies, and no KL between them"
        )
    given = options.kl_responses == GIVEN
    columns = Columns(options.input_key, options.label_key, options.kl_demonstrations_key if given else None)
    tasks = read_tasks([options.kl_prompts], columns, options.kl_problems, False, options.split)
    questions = [question for task in tasks for question in task.questions][: options.kl_problems]
    prompts = [asked.ids for task in tasks for asked in ask(task, options, tokenizer)][: options.kl_problems]
    check_positions(options, max(map(len, prompts)), options.kl_tokens, "--kl_tokens")
    responses = None
    if given:
        if without := [question.row.number for question in questions if not question.row.demonstrations]:
            raise UserError(f"--kl_responses given: row {without[0]} of {options.kl_prompts} has no demonstration")
        texts = [question.row.demonstrations[0] for question in questions]
        responses = [ids.tolist()[: options.kl_tokens] for ids in encode(tokenizer, texts)]
    return Request(base, options.model, prompts, responses, options.kl_tokens, options.seed, options.trust_remote_code)


def measure(request: Request) -> dict[str, Any]:
    """compute() in a process of its own, which leaves no memory of the GPU taken."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        return process.submit(compute, request).result()


def compute(request: Request) -> dict[str, Any]:
    """Means in nats a token and a response, the former with its error over prompts; what they were measured on."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    base, now = (_load(name, device, request.trust_remote_code) for name in (request.base, request.now))
    torch.manual_seed(request.seed)
    sums, lengths = [], []
    for index, prompt in enumerate(request.prompts):
        response = request.responses[index] if request.responses else _drawn(base, prompt, request.tokens)
        found = divergences(*(_logits(model, prompt, response) for model in (base, now)))
        sums.append(float(found.sum()))
        lengths.append(len(response))
    each = [total / length for total, length in zip(sums, lengths, strict=True)]
    return {
        "per_token": fmean(each),
        "per_token_stderr": standard_error(each),
        "per_response": fmean(sums),
        "prompts": len(each),
        "tokens": sum(lengths),
        "responses": "the file's demonstrations" if request.responses else "sampled by the base",
    }


def divergences(base: torch.Tensor, now: torch.Tensor) -> torch.Tensor:
    """(T,) KL(base || now) in nats, of (T, V) logits of any finite scale."""
    before, after = base.double().log_softmax(-1), now.double().log_softmax(-1)
    return (before.exp() * (before - after)).sum(-1)


def _load(name: str, device: str, trust: bool) -> Any:
    from transformers import AutoModelForCausalLM

    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    return AutoModelForCausalLM.from_pretrained(name, dtype=dtype, trust_remote_code=trust).to(device).eval()


@torch.no_grad()
def _logits(model: Any, prompt: Sequence[int], response: Sequence[int]) -> torch.Tensor:
    """(T, V) logits that predict each token of the response."""
    ids = torch.tensor([[*prompt, *response]], device=model.device)
    return model(ids, logits_to_keep=len(response) + 1).logits[0, :-1]


@torch.no_grad()
def _drawn(model: Any, prompt: Sequence[int], tokens: int) -> list[int]:
    """A response of the model at temperature 1 with its whole vocabulary, its last token included."""
    ids = torch.tensor([prompt], device=model.device)
    drawn = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        do_sample=True,
        temperature=1.0,
        top_p=1.0,
        top_k=0,
        max_new_tokens=tokens,
        pad_token_id=model.generation_config.pad_token_id or 0,
    )
    return drawn[0, len(prompt) :].tolist()
