"""A task and its base model in one folder, made once: tiny ones of ours, or SmolLM2 and a task of reasoning-gym."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from openrlhf_prefix.arguments import Parser, parser_of
from openrlhf_prefix.data import tasks
from openrlhf_prefix.data.families import FAMILIES
from openrlhf_prefix.data.gym import rows as gym
from openrlhf_prefix.data.gym.solvers import SOLVERS
from openrlhf_prefix.errors import UserError

TINY, TEACHER, SMOLLM2, NONE = "tiny", "teacher", "smollm2", "none"
MADE = (TINY, TEACHER)  # on the task itself
MODELS = "1M parameters; 3.4M that work every problem out, for --teacher.model; SmolLM2-135M; or the task alone"
PARTS = ("train", "heldout", "tune", "longer")


def parser() -> Parser:
    parser = parser_of("embed", "An embedded task and its base model in one folder; made once.")
    parser.add_argument("directory", metavar="DIRECTORY", type=Path, help="folder for task/ and model/")
    parser.add_argument("--model", choices=[*MADE, SMOLLM2, NONE], default=TINY, help=MODELS)
    parser.add_argument("--task", default="chains", help=f"{', '.join(FAMILIES)}, or {gym.PREFIX}NAME")
    parser.add_argument("--set", nargs="+", default=[], help=f"{gym.PREFIX}NAME: KEY=VALUE, of its settings")
    parser.add_argument("--shots", type=int, default=0, help=f"{SMOLLM2}: worked examples before every question")
    parser.add_argument("--train", type=int, default=2048, help="training problems")
    parser.add_argument("--heldout", type=int, default=256, help="held-out problems")
    parser.add_argument("--tune", type=int, default=256, help="problems to choose learning rates on")
    parser.add_argument("--longer", type=int, default=256, help="held-out problems longer than any other")
    parser.add_argument("--slips", type=float, default=0.0, help="share of wrong demonstrations in the training set")
    parser.add_argument("--systematic", action="store_true", help="they have one habit: differences are 1 too high")
    parser.add_argument("--min_operations", type=int, help="of the shortest problem (default: the family's)")
    parser.add_argument("--max_operations", type=int, help="of the longest: the difficulty")
    parser.add_argument("--seed", type=int, default=0, help="of problems and model")
    return parser


def main(argv: Sequence[str]) -> None:
    """Writes DIRECTORY/task and DIRECTORY/model; a second call finds both and returns at once."""
    options = parser().parse_args(argv)
    if options.systematic and not options.slips:
        raise UserError("--systematic says how demonstrations are wrong: give --slips, the share of them that is")
    try:
        if options.task.startswith(gym.PREFIX):
            _gym_task(options)
        else:
            _family(options)
        if options.model != NONE:
            _model(options)
    except ValueError as error:
        raise UserError(str(error)) from None
    print(f"embedded task{'' if options.model == NONE else ' and model'}: {options.directory}")


def _family(options: argparse.Namespace) -> None:
    if options.task not in FAMILIES:
        raise UserError(f"--task {options.task}: choose one of {', '.join(FAMILIES)}, or {gym.PREFIX}NAME")
    if options.set or options.shots:
        raise UserError(f"--set and --shots are for tasks of reasoning-gym (--task {gym.PREFIX}NAME)")
    sizes = {
        name: vars(options)[name] for name in ("train", "heldout", "tune", "longer", "slips", "systematic", "seed")
    }
    bounds = {name: vars(options)[name] for name in ("min_operations", "max_operations")}
    tasks.write_task(options.directory / "task", FAMILIES[options.task], **sizes, **bounds)


def _gym_task(options: argparse.Namespace) -> None:
    task = options.task.removeprefix(gym.PREFIX)
    if options.model in MADE and task not in SOLVERS:
        raise UserError(f"--task {options.task} has no demonstrations to make a model of: add --model {SMOLLM2}")
    if options.model in MADE and options.shots:
        raise UserError(f"--shots are for --model {SMOLLM2}: the others are made on the task itself")
    if options.min_operations or options.max_operations:
        raise UserError(f"--min_operations and --max_operations are for {', '.join(FAMILIES)}: give --set KEY=VALUE")
    sizes = {name: vars(options)[name] for name in ("heldout", "train", "tune", "slips", "systematic")}
    settings = gym.parsed(options.set)
    gym.write_task(options.directory / "task", task, settings, options.seed, options.shots, **sizes)


def _model(options: argparse.Namespace) -> None:
    directory = options.directory / "model"
    if options.model == SMOLLM2:
        from openrlhf_prefix.data.smollm2 import make_smollm2  # imports transformers

        make_smollm2(directory)
    else:
        from openrlhf_prefix.data.tiny_model import make_model, recipe_of

        recipe = recipe_of(options.task, teacher=options.model == TEACHER)
        make_model(directory, options.directory / "task", seed=options.seed, recipe=recipe)
