"""The `train` verb: check everything cheap, take the cluster, run OpenRLHF's train().

Order matters: checkpoint, reward, tokenizer, data, run folder, Ray, GPUs. Whatever a user can mend is refused before a
model loads.
"""

import importlib.metadata
import os
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from openrlhf_prefix.checkpoint.store import Choice
from openrlhf_prefix.data import samples
from openrlhf_prefix.data.cuts import trains_whole
from openrlhf_prefix.data.problems import LONG_PROMPTS, Problem, load_problems, response_budget
from openrlhf_prefix.data.prompts import Prompts
from openrlhf_prefix.errors import RunStopped, UserError
from openrlhf_prefix.report.lines import summary_table
from openrlhf_prefix.report.run_folder import RunFolder
from openrlhf_prefix.runtime.context import RunContext
from openrlhf_prefix.runtime.deadlines import VARIABLE as PHASE_SECONDS
from openrlhf_prefix.runtime.driver import resume
from openrlhf_prefix.runtime.driver.examples import read_examples
from openrlhf_prefix.runtime.driver.model_folder import prepare_model
from openrlhf_prefix.runtime.driver.preflight import (
    check_deepspeed,
    check_gpus,
    check_rewards,
    try_reward,
)
from openrlhf_prefix.runtime.learner.card import write_card
from openrlhf_prefix.runtime.platform import adapter
from openrlhf_prefix.settings import config, secrets
from openrlhf_prefix.settings.derived import gpus_needed, learns_reward, prefixed_rows, sft_steps
from openrlhf_prefix.settings.model import check_head, check_weights, load_tokenizer, stop_ids
from openrlhf_prefix.settings.resolve import Resolved
from openrlhf_prefix.settings.teacher import check_context, check_teacher


def train(resolved: Resolved) -> None:
    """Runs a training from checked flags to the export; prints progress and the final table."""
    args, started = resolved.args, time.time()
    hidden = secrets.take(args)
    choice, problems, facts = check(resolved)
    checkpoint = choice.checkpoint
    folder = RunFolder(args.run.dir)
    folder.claim(resume=args.ckpt.load_enable)
    resume.set_aside(args, choice)
    # Decided once, for all ranks. From here on the flag says whether there is something to load.
    args.ckpt.load_enable = checkpoint is not None
    context = RunContext(started, checkpoint and checkpoint.tag, facts)
    print(f"run folder: {folder.write_config(config.dump(resolved.flat)).parent}", flush=True)
    with cluster(args, problems, context) as board:
        from openrlhf_prefix.runtime.driver import wiring

        wiring.wire(board=board, secrets=hidden)(args)
    summary = folder.summary()
    write_card(Path(args.ckpt.output_dir), facts, summary["steps"], folder.path)
    print(summary_table(summary), flush=True)


def check(resolved: Resolved) -> tuple[Choice, tuple[list[Problem], ...], dict[str, Any]]:
    """What can be found wrong without a cluster: checkpoint, tokenizer, data, demonstrations, template, reward file.

    Returns:
        The checkpoint to go on from, and those passed over; training and held-out problems, and those of
        --mask.file; what a checkpoint will say about this run.

    Raises:
        UserError: with the first mistake.
    """
    choice = resume.find(resolved.args)
    problems = read_problems(resolved.args)
    tokenizer = load_tokenizer(resolved.args)
    examples = read_examples(resolved.args, tokenizer, problems[0])
    facts = resume.facts(resolved, tokenizer, problems[0])
    if choice.checkpoint:
        resume.check(choice.checkpoint, facts)
    return choice, (*problems, examples), facts


# What it leaves to the run, as --dry_run says; this_machine.py looks at the GPUs here.
UNCHECKED = (
    "not checked, as it takes the cluster: GPUs that are not seen here, their memory (openrlhf-prefix plan) and "
    "kernels, the other nodes, reward models and servers, whether the weights load"
)


@contextmanager
def cluster(args: SimpleNamespace, problems: tuple[list[Problem], ...], context: RunContext) -> Iterator[Any]:
    """While the block runs Ray is up with what the placement needs, and `args` carries the context, problems and
    board included; gives the board."""
    prepare_model(args)
    start_ray(args)
    check_gpus(args)

    import ray

    from openrlhf_prefix.runtime.driver.nodes import check_nodes, check_placement
    from openrlhf_prefix.runtime.driver.progress import Board, Display
    from openrlhf_prefix.runtime.driver.signals import signals_to

    if "RAY_ADDRESS" in os.environ or adapter.current().name == "cuda":
        print(check_nodes(args), flush=True)
    check_placement(args)
    board = Board.remote()
    replace(context, problems=ray.put(problems), board=board).attach(args)
    print("starting engines and trainers ...", flush=True)
    try:
        with Display(board), driver_prints(args), signals_to(board):
            yield board
    except ray.exceptions.RayActorError as death:
        raise RunStopped(died(args, str(getattr(death, "cause", death)))) from death
    finally:
        ray.shutdown()


def died(args: SimpleNamespace, report: str) -> str:
    """The sentence about a dead part of the run; Ray's own report goes into the run folder."""
    with (Path(args.run.dir) / "driver.log").open("a", encoding="utf-8") as log:
        log.write(f"{secrets.without_secrets(report)}\n")
    names = [line.split(":", 1)[1].strip() for line in report.splitlines() if line.strip().startswith("class_name:")]
    who = f"{names[0]} died" if names else "a part of the run died"
    return f"{who} (see driver.log). The same command with --ckpt.load_enable goes on after the last save"


@contextmanager
def driver_prints(args: SimpleNamespace) -> Iterator[None]:
    """What upstream prints in this process goes into the run folder, or to the terminal with --run.verbose."""
    if args.run.verbose:
        yield
        return
    with (Path(args.run.dir) / "driver.log").open("a", encoding="utf-8") as log, redirect_stdout(log):
        yield


def read_problems(args: SimpleNamespace) -> tuple[list[Problem], list[Problem]]:
    """Training and held-out problems, checked and tokenised, after the cheaper checks. Raises UserError."""
    check_deepspeed(importlib.metadata.version("deepspeed"))
    check_rewards(args)
    tokenizer = load_tokenizer(args)
    check_head(args)
    check_weights(args.actor.model_name_or_path)
    check_teacher(args, tokenizer)
    budget = response_budget(args)
    counts, left_out = Counter(), Counter()
    judged = not learns_reward(args)
    train_set = load_problems(
        args.data.prompt_dataset, args, tokenizer, budget, args.data.prompt_split, counts, answered=judged
    )
    held_out = []
    if args.eval.dataset:
        held_out = load_problems(args.eval.dataset, args, tokenizer, budget, args.eval.split, left_out, held_out=True)
    if len(train_set) < args.rollout.batch_size:
        raise UserError(
            f"{args.data.prompt_dataset} holds {len(train_set)} problems, fewer than rollout.batch_size "
            f"{args.rollout.batch_size}: lower it, or add problems"
        )
    check_demonstrations(args, train_set, counts)
    check_context(args, train_set)
    prompts = Prompts(tokenizer, args.data.apply_chat_template, args.data.input_template)
    tried = [try_reward(args, tokenizer, problem) for problem in (train_set if judged else held_out)[:1]]
    for warning in (*samples.warnings(prompts, counts), *tried):
        if warning:
            print(f"warning: {warning}", flush=True)
    stops = stop_ids(args, tokenizer)
    print(samples.report(train_set, tokenizer, stops, args.rollout.stop_strings), flush=True)
    dropped = f", {left_out[LONG_PROMPTS]} {LONG_PROMPTS}" if left_out[LONG_PROMPTS] else ""
    print(f"{samples.counts_line(train_set, counts)}; {len(held_out)} held out{dropped}", flush=True)
    return train_set, held_out


def check_demonstrations(args: SimpleNamespace, problems: list[Problem], counts: Counter[str]) -> None:
    """The training set has the demonstrations that the method needs. Raises UserError."""
    name, method, prefixed = args.data.prompt_dataset, f"preset {args.hybrid.preset}", prefixed_rows(args)
    usable = sum(bool(problem.demonstrations if trains_whole(args) else any(problem.limits)) for problem in problems)
    if (prefixed or trains_whole(args)) and not usable:
        noted = "".join(f"; {count} {what}" for what, count in counts.items() if count)
        raise UserError(
            f"{name} has no demonstration in any row (column {args.prefix.demonstrations_key!r}{noted}), and {method} "
            "needs them: name the right column in --prefix.demonstrations_key, or use --hybrid.preset rft"
        )
    alone = args.hybrid.demonstration == "whole" and prefixed == args.rollout.n_samples_per_prompt
    if alone and usable < len(problems):
        raise UserError(
            f"{len(problems) - usable} of {len(problems)} problems in {name} have no usable demonstration, and "
            f"{method} trains on nothing else: leave them out"
        )
    if args.hybrid.sft_validate and usable < 2:
        raise UserError(
            f"hybrid.sft_validate holds out a tenth of the problems with demonstrations, one at the least, and {name} "
            f"has {usable}: set it to 0, or add demonstrations"
        )
    episode = len(problems) // args.rollout.batch_size
    steps = episode * args.train.num_episodes
    if args.hybrid.sft_steps and not 0 < sft_steps(args, steps) < steps:
        raise UserError(
            f"hybrid.sft_steps {args.hybrid.sft_steps} of a run of {steps} steps leaves none to one of the two "
            "stages: change it, or add problems or episodes"
        )
    rollouts_from = 0 if args.hybrid.sft_validate else sft_steps(args, steps)
    if rollouts_from >= steps - episode:
        check_single_visits(args, any(problem.pass_rate == 0 for problem in problems))


def check_single_visits(args: SimpleNamespace, known: bool) -> None:
    """Nothing is asked for that looks at a problem's earlier visits, in a run whose rollouts visit no problem twice;
    `known`: some pass rate is 0. Raises UserError."""
    if args.prefix.controller == "on_failure" and not known:
        said = "prefix.controller on_failure gives a prefix where a problem's last visit failed"
        mend = "give problems a pass_rate, or choose another prefix.controller"
    elif args.prefix.trust:
        said = "prefix.trust draws demonstrations by what became of them at earlier visits"
        mend = "or set prefix.trust to 0"
    else:
        return
    raise UserError(
        f"{said}, and this run, with rollouts in the last of {args.train.num_episodes} episode(s) alone, "
        f"visits none twice: raise train.num_episodes, {mend}"
    )


def start_ray(args: SimpleNamespace) -> None:
    """Connects to RAY_ADDRESS, or starts a Ray of our own; chooses the platform."""
    import ray

    running = "RAY_ADDRESS" in os.environ
    chosen = None
    if running:  # which accelerators there are decides on the environment of the workers, so look first
        try:
            ray.init(log_to_driver=False, logging_level="ERROR")
        except (ConnectionError, ValueError) as error:
            raise UserError(
                f"no Ray cluster answers at RAY_ADDRESS {os.environ['RAY_ADDRESS']} "
                f"({str(error).strip().splitlines()[0]}): check it, or unset it for a run on this machine alone"
            ) from None
        try:
            chosen = adapter.choose(ray.cluster_resources(), partial(sees_cuda, args.run.wait_seconds))
        finally:
            ray.shutdown()
    chosen = chosen or adapter.choose()
    chosen.adjust(args)
    chosen.install()
    os.environ[PHASE_SECONDS] = str(args.run.phase_seconds)
    if not args.run.verbose:
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    options: dict[str, Any] = {}
    if not running:  # not one that somebody else has started on this machine either
        options = {"address": "local", "include_dashboard": False, **chosen.ray_options(gpus_needed(args))}
    ray.init(
        **options,
        log_to_driver=args.run.verbose,
        logging_level="INFO" if args.run.verbose else "ERROR",
        runtime_env={"env_vars": worker_environment(args, chosen), **chosen.runtime_env()},
    )


def sees_cuda(seconds: float) -> bool:
    """Whether PyTorch sees a GPU where the connected cluster counts one. UserError where none is free to be asked."""
    import ray

    @ray.remote(num_gpus=1, num_cpus=0)
    def look() -> bool:
        import torch

        return torch.cuda.is_available()

    try:
        return ray.get(look.remote(), timeout=seconds)
    except ray.exceptions.GetTimeoutError:
        raise UserError(
            f"none of the cluster's GPUs was free for {seconds:g} s (--run.wait_seconds): wait for the other jobs, or "
            "end them"
        ) from None


def worker_environment(args: SimpleNamespace, chosen: adapter.CudaPlatform) -> dict[str, str]:
    """Variables of every worker. The first three are OpenRLHF's own, with its defaults."""
    defaults = {
        "TOKENIZERS_PARALLELISM": "true",
        "NCCL_DEBUG": "WARN",
        "RAY_ENABLE_ZERO_COPY_TORCH_TENSORS": "1",
        "TQDM_DISABLE": "" if args.run.verbose else "1",
    }
    kept = {name: os.environ.get(name, value) for name, value in defaults.items()}
    kept[PHASE_SECONDS] = str(args.run.phase_seconds)
    return {name: value for name, value in (kept | chosen.environment(args)).items() if value}
