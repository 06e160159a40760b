"""The embedded default: a task and its tiny base model in one folder, made once and cached."""

from collections.abc import Sequence
from pathlib import Path

from openrlhf_prefix.arguments import Parser, parser_of
from openrlhf_prefix.data.families import FAMILIES
from openrlhf_prefix.data.tasks import write_task
from openrlhf_prefix.errors import UserError


def parser() -> Parser:
    parser = parser_of("embed", "The embedded task and its tiny base model in one folder; made once.")
    parser.add_argument("directory", metavar="DIRECTORY", type=Path, help="folder for task/ and model/")
    parser.add_argument("--task", choices=list(FAMILIES), default="chains", help="family of problems")
    parser.add_argument("--train", type=int, default=2048, help="training problems")
    parser.add_argument("--heldout", type=int, default=256, help="held-out problems")
    parser.add_argument("--tune", type=int, default=256, help="problems to choose learning rates on")
    parser.add_argument("--longer", type=int, default=256, help="held-out problems longer than any other")
    parser.add_argument("--slips", type=float, default=0.0, help="share of wrong demonstrations in the training set")
    parser.add_argument("--min_operations", type=int, help="of the shortest problem (default: the family's)")
    parser.add_argument("--max_operations", type=int, help="of the longest: the difficulty")
    parser.add_argument("--seed", type=int, default=0, help="of problems and model")
    return parser


def main(argv: Sequence[str]) -> None:
    """Writes DIRECTORY/task and DIRECTORY/model; a second call finds both and returns at once."""
    options = parser().parse_args(argv)
    from openrlhf_prefix.data.tiny_model import make_model  # imports transformers

    sizes = {name: value for name, value in vars(options).items() if name not in ("directory", "task")}
    try:
        write_task(options.directory / "task", FAMILIES[options.task], **sizes)
        make_model(options.directory / "model", options.directory / "task", seed=options.seed)
    except ValueError as error:
        raise UserError(str(error)) from None
    print(f"embedded task and model: {options.directory}")
