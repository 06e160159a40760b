"""The command lines of a run, and the check that every one of them is valid before the first one starts."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from openrlhf_prefix.comparison.plan import BASE, TUNE, Flags, Plan, Run
from openrlhf_prefix.data.files import check_datasets, iterate
from openrlhf_prefix.data.sampled import NOTHING, Cost, cost_of
from openrlhf_prefix.errors import UserError
from openrlhf_prefix.settings.config import read_yaml
from openrlhf_prefix.settings.flags import MATH_VERIFY
from openrlhf_prefix.settings.resolve import resolve
from openrlhf_prefix.settings.secrets import without_secrets

EVALUATION = "evaluation.json"  # in the run folder


@dataclass(frozen=True)
class Job:
    """A run with everything that has to be done for it."""

    run: Run
    folder: Path
    train: tuple[str, ...] | None  # arguments of the command line; None for the base model
    evaluate: tuple[str, ...] | None  # None for tuning runs, whose own evaluation is enough
    settings: str  # digest of all that the run depends on
    steps: int  # optimizer steps; 0 for the base model
    sampled: Cost = NOTHING  # of its training data, where a policy made them


def make_job(plan: Plan, run: Run, runs: Path) -> Job:
    """The job of one run, all of its flags checked. Raises UserError."""
    method = run.method or next(iter(plan.methods))  # the base model is that of every method
    folder = runs / run.name
    flags = train_flags(plan, run, method)
    argv = ("train", "--config", plan.train, *arguments(flags))
    try:
        args = resolve([*argv[1:], "--run.dir", str(folder)]).args
    except UserError as error:
        raise UserError(f"{run.name}: {error}") from None
    model = args.actor.model_name_or_path if run.stage == BASE else str(folder / "export")
    evaluation = None if run.stage == TUNE else evaluate_arguments(plan, run, args)
    described = [evaluation] if run.stage == BASE else [read_yaml(Path(plan.train)), argv, evaluation]
    return Job(
        run=run,
        folder=folder,
        train=None if run.stage == BASE else (*argv, "--run.dir", str(folder)),
        evaluate=evaluation and ("evaluate", model, *evaluation, "--json", str(folder / EVALUATION)),
        settings=hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:16],
        steps=0 if run.stage == BASE else optimizer_steps(args),
        sampled=NOTHING if run.stage == BASE else cost_of(args.data.prompt_dataset),
    )


def train_flags(plan: Plan, run: Run, method: str) -> Flags:
    """Flags of a training beside its config file; later ones win: comparison, task, method, stage, run."""
    task = plan.tasks[run.task]
    of_stage: Flags = {"eval.dataset": next(iter(task.sets.values()))}
    if run.stage == TUNE:
        of_stage = {"eval.dataset": task.tune, "eval.steps": -1, "run.eval_at_start": False, **plan.tuning_flags}
    of_run: Flags = {} if run.stage == BASE else {"actor.adam.lr": run.lr, "train.seed": run.seed}
    return {**plan.flags, **task.flags, **plan.methods[method], **of_stage, **of_run}


def evaluate_arguments(plan: Plan, run: Run, args: SimpleNamespace) -> tuple[str, ...]:
    """Arguments of `evaluate` behind the model: the prompts, lengths and verifier of the training."""
    sets = plan.tasks[run.task].sets
    options = {
        "samples": plan.samples,
        "k": plan.ks,
        "temperature": args.eval.temperature,
        "max_new_tokens": args.rollout.max_new_tokens,
        "max_len": args.data.max_len,
        "stop_strings": args.rollout.stop_strings or None,
        "stop_token_ids": args.rollout.stop_token_ids or None,
        "input_key": args.data.input_key,
        "label_key": args.data.label_key,
        "reward_file": reward_file(args.reward.remote_url),
        "fallback": args.verifier.fallback,
        "gpu_memory_utilization": args.vllm.gpu_memory_utilization,
        "tensor_parallel_size": args.vllm.tensor_parallel_size,
        "max_samples": plan.problems,
        "input_template": None if args.data.apply_chat_template else args.data.input_template or None,
    }
    bare = () if args.data.apply_chat_template else ("--no_chat_template",)
    return (*sets.values(), *arguments(options), *bare)


def reward_file(urls: Sequence[str] | None) -> str | None:
    """For `evaluate`, that judges as the training does. Raises UserError for what it cannot ask."""
    if not urls or urls == [MATH_VERIFY]:
        return None
    if not urls[0].endswith(".py"):
        raise UserError(
            f"reward.remote_url {without_secrets(urls[0])}: a comparison's models are judged by math-verify or by a "
            ".py file, which may ask the server"
        )
    return urls[0]


def arguments(flags: Mapping[str, Any]) -> tuple[str, ...]:
    """Flags as words of a command line; None leaves a flag out."""
    words: list[str] = []
    for name, value in flags.items():
        if value is not None:
            values = value if isinstance(value, (list, tuple)) else [value]
            words += [f"--{name}", *(str(item).lower() if isinstance(item, bool) else str(item) for item in values)]
    return tuple(words)


def optimizer_steps(args: SimpleNamespace) -> int:
    """Optimizer steps of a training; `args` is nested."""
    problems = 0
    for name in args.data.prompt_dataset.split(","):
        problems += sum(1 for _ in islice(iterate(name, args.data.prompt_split), args.data.max_samples))
    rollouts = min(problems, args.data.max_samples) // args.rollout.batch_size * args.train.num_episodes
    rows = args.rollout.batch_size * args.rollout.n_samples_per_prompt
    return rollouts * (rows // args.train.batch_size) * args.train.max_epochs


def check_jobs(plan: Plan, runs: Path) -> list[Job]:
    """The jobs of all runs that can be told before any learning rate is chosen, with the smallest one in its place.

    Raises:
        UserError: flags that no training accepts, files that are not there, or methods with unequal steps.
    """
    for name, task in plan.tasks.items():
        for what, path in {"tune": task.tune, **task.sets}.items():
            check_datasets(f"tasks.{name}: {what}", path)
    stand_ins = [
        run
        for task in plan.tasks
        for method in plan.compared(task)
        for run in plan.final(task, method, min(plan.grid(task)))
    ]
    jobs = [make_job(plan, run, runs) for run in [*plan.bases(), *plan.tuning(), *stand_ins]]
    _check_steps([job for job in jobs if job.run.stage != BASE])
    return jobs


def _check_steps(jobs: Sequence[Job]) -> None:
    steps = {f"{job.run.task} {job.run.method}": job.steps for job in jobs}
    if len(set(steps.values())) > 1 or 0 in steps.values():
        told = ", ".join(f"{name} {count}" for name, count in steps.items())
        raise UserError(
            f"the methods differ in optimizer steps ({told}): set data.max_samples, rollout.batch_size and "
            "train.num_episodes so that all have the same"
        )
