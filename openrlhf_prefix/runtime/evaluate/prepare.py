"""What an evaluation asks, and the settings that its numbers depend on; whatever is wrong is refused here.

A model that trained here is asked as its run asked it: the same prompts, ids and seeds, so that its score can be held
against the one that the run reported. `settings` is what two evaluations must share to be resumed or compared.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from openrlhf_prefix import pins
from openrlhf_prefix.data.benchmark import Task, read_tasks, without_system
from openrlhf_prefix.data.faults import refuse
from openrlhf_prefix.data.files import check_datasets, check_exists
from openrlhf_prefix.data.prompts import Prompts
from openrlhf_prefix.data.rows import Columns, Row, prompt_text
from openrlhf_prefix.errors import UserError
from openrlhf_prefix.evaluation import benchmarks
from openrlhf_prefix.evaluation.records import Settings
from openrlhf_prefix.evaluation.templates import TEMPLATES, Template, template_hash
from openrlhf_prefix.runtime.driver.preflight import check_reward_file
from openrlhf_prefix.runtime.driver.resume import model_hash
from openrlhf_prefix.settings.config import nested
from openrlhf_prefix.settings.model import load_tokenizer, read_config

SAMPLES = 4  # of a problem, where neither the user nor a benchmark nor the file says how many
GRADER = f"openrlhf_prefix, math-verify {pins.MATH_VERIFY} for calculus"  # without --reward_file


@dataclass(frozen=True)
class Asked:
    """One question as the model reads it."""

    task: str
    problem: str
    gold: str
    choices: bool  # the gold is the label of an option
    text: str
    ids: list[int]


@dataclass(frozen=True)
class Prepared:
    """An evaluation that can start."""

    tasks: list[Task]
    asked: list[Asked]
    samples: dict[str, int]  # task -> samples of a problem
    max_len: int  # tokens of the longest prompt and a response
    settings: Settings


def prepare(options: argparse.Namespace) -> Prepared:
    """Reads and checks everything. Raises UserError."""
    check_exists("MODEL", options.model)
    for name in options.datasets:
        check_datasets("DATASET", name)
    columns = Columns(options.input_key, options.label_key, None)
    tasks = read_tasks(options.datasets, columns, options.max_samples, options.choices == "shuffled", options.split)
    return prepare_tasks(tasks, {task.name: _samples(task, options) for task in tasks}, options)


def prepare_tasks(tasks: list[Task], samples: dict[str, int], options: argparse.Namespace) -> Prepared:
    """The same with tasks that are read already; `samples` of each problem by task. Raises UserError."""
    if options.reward_file:
        check_reward_file(options.reward_file)
    flags = model_flags(options)
    tokenizer = load_tokenizer(flags)
    asked = [question for task in tasks for question in ask(task, options, tokenizer)]
    longest = max(len(question.ids) for question in asked)
    check_positions(options, longest, options.max_new_tokens, "--max_new_tokens")
    return Prepared(
        tasks, asked, samples, longest + options.max_new_tokens, _settings(options, flags, tokenizer, tasks, samples)
    )


def _samples(task: Task, options: argparse.Namespace) -> int:
    """How often each problem is asked: as the user says, as papers do, as the file does by its equal rows."""
    known = benchmarks.known(task.name)
    of_file = task.repeats if task.repeats > 1 else SAMPLES
    count: int = options.samples or (benchmarks.BENCHMARKS[known].samples if known else of_file)
    if too_large := [k for k in options.k or () if k > count]:
        raise UserError(
            f"pass@{too_large[0]} needs as many samples of a problem, and {task.name} has {count}: give --samples"
        )
    return count


def ask(task: Task, options: argparse.Namespace, tokenizer: Any) -> list[Asked]:
    """The questions of a task, by the options' template. Raises UserError for those that it cannot make."""
    bad: list[str] = []
    template = chosen_template(options)
    prompts = Prompts(tokenizer, template.chat)
    texts = [prompts.text(written(question.row, template), bad) or "" for question in task.questions]
    refuse(task.file, bad)
    ids = prompts.ids(texts)
    if options.max_len:
        for question, found in zip(task.questions, ids, strict=True):
            if len(found) + options.max_new_tokens > options.max_len:
                bad.append(
                    f"row {question.row.number} has a prompt of {len(found)} tokens: with a response of "
                    f"{options.max_new_tokens} it exceeds --max_len {options.max_len}"
                )
    refuse(task.file, bad)
    return [
        Asked(
            task.name,
            question.id,
            question.row.answer,
            task.choices and len(question.row.answer.strip()) == 1,
            text,
            found.tolist(),
        )
        for question, text, found in zip(task.questions, texts, ids, strict=True)
    ]


def chosen_template(options: argparse.Namespace) -> Template:
    """That of --template, or what --input_template or --no_chat_template put in its place."""
    if options.input_template is not None:
        before, _, after = options.input_template.partition("{}")
        return Template(before, after)
    return Template() if options.no_chat_template else TEMPLATES[options.template or "own"]


def written(row: Row, template: Template) -> Row:
    """The row with the prompt that the template makes of it."""
    if not template.chat:
        return replace(row, prompt=template.before + prompt_text(row) + template.after)
    if template.system is None:
        return row
    said = without_system(row.prompt)
    messages = [{"role": "user", "content": said}] if isinstance(said, str) else said
    return replace(row, prompt=[{"role": "system", "content": template.system}, *messages])


def check_positions(options: argparse.Namespace, longest: int, tokens: int, flag: str) -> None:
    """Raises UserError where the model has no room for the longest prompt and `tokens` more, which `flag` sets."""
    limit = getattr(read_config(model_flags(options)), "max_position_embeddings", None)
    if limit is not None and longest + tokens > limit:
        raise UserError(
            f"a prompt of {longest} tokens and a response of {tokens} need more than the {limit} positions of "
            f"{options.model}: lower {flag}"
        )


def _settings(
    options: argparse.Namespace,
    flags: SimpleNamespace,
    tokenizer: Any,
    tasks: Sequence[Task],
    samples: dict[str, int],
) -> Settings:
    template = chosen_template(options)
    by_hand = "input_template" if options.input_template is not None else "none" if options.no_chat_template else None
    return {
        "model": options.model,
        "model_hash": model_hash(flags)[:16],
        "template": by_hand or options.template or "own",
        "template_hash": template_hash(template, tokenizer.chat_template),
        "temperature": options.temperature,
        "top_p": options.top_p,
        "max_new_tokens": options.max_new_tokens,
        "stop_strings": options.stop_strings,
        "stop_token_ids": options.stop_token_ids,
        "choices": options.choices,
        "grader": grader(options),
        "fallback": options.fallback,
        "seed": options.seed,
        "tasks": {
            task.name: {
                "file": task.file,
                "problems": len(task.questions),
                "samples": samples[task.name],
                "shuffled": task.moved,
                "data_hash": task.fingerprint(),
            }
            for task in tasks
        },
    }


def grader(options: argparse.Namespace) -> str:
    """What the settings say of it: a reward file by its content."""
    if not options.reward_file:
        return GRADER
    return f"{options.reward_file}, SHA-256 {sha256(Path(options.reward_file).read_bytes()).hexdigest()[:16]}"


def model_flags(options: argparse.Namespace) -> SimpleNamespace:
    """The flags that the readers of tokenizers and configs look at."""
    return nested(
        {
            "actor.model_name_or_path": options.model,
            "model.trust_remote_code": options.trust_remote_code,
            "model.max_position_embeddings": None,
            "reward.model_name_or_path": None,
            "data.apply_chat_template": chosen_template(options).chat,
            "data.disable_fast_tokenizer": False,
            "data.max_len": 0,  # _context() looks at the positions
        }
    )
