"""The examples by which a mask chooses the weights that train: problems with demonstrations, read before the run."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from openrlhf_prefix.algorithm.mask import needs_examples
from openrlhf_prefix.data.problems import Problem, load_problems, response_budget
from openrlhf_prefix.errors import UserError


def read_examples(args: SimpleNamespace, tokenizer: Any, problems: Sequence[Problem]) -> list[Problem]:
    """The problems of --mask.file, all of which keep their demonstrations; none where the training set is meant.

    Raises:
        UserError: rows that cannot be used, or no demonstration to score the weights with.
    """
    flags, found = args.mask, []
    if flags.file:
        prefix = SimpleNamespace(**{**vars(args.prefix), "demonstration_fraction": 1.0})
        whole = SimpleNamespace(**{**vars(args), "prefix": prefix})
        found = load_problems(flags.file, whole, tokenizer, response_budget(args), args.data.prompt_split)
    if needs_examples(flags.method) and not any(problem.demonstrations for problem in (found or problems)):
        raise UserError(
            f"mask.method {flags.method} scores weights by demonstrations, and "
            f"{flags.file or args.data.prompt_dataset} has none (column {args.prefix.demonstrations_key!r}): give "
            "rows that have some in --mask.file, or use --mask.method magnitude"
        )
    return found
