"""What it cost to make a file of problems: beside train.jsonl, which was sampled, lies train.sampling.json.

    {"verb": "collect", "file": "raw.jsonl", "policy": "runs/x/export", "settings": {"seed": 42, "model_hash": .., ..},
     "problems": 64, "written": 40, "rates": {"0": 24, "1": 5, ..}, "tokens_generated": 8123, "seconds": 31.2}

`rates` counts problems by right samples. Tokens and seconds are those of the sampling, prompts and start-up left out,
and of the sampling that its own source cost before. Comparisons add them to what a run on the file generated.
"""

from pathlib import Path
from typing import NamedTuple

from openrlhf_prefix.data.files import names_of, split_name
from openrlhf_prefix.errors import UserError
from openrlhf_prefix.evaluation.records import read_json


class Cost(NamedTuple):
    """Of sampling."""

    tokens: int = 0
    seconds: float = 0.0


NOTHING = Cost()


def side_file(path: Path) -> Path:
    """Where the cost of a file of problems stands: train.jsonl -> train.sampling.json."""
    return path.with_suffix(".sampling.json")


def cost_of(names: str) -> Cost:
    """Of all files of a comma-separated list together; one without a side file costs nothing. UserError for a bad one.

    Example: two files of which one was sampled with 8123 tokens in 31.2 s: Cost(8123, 31.2).
    """
    tokens, seconds = 0, 0.0
    for name in names_of(names):
        path = Path(split_name(name)[0]).expanduser()
        if not path.suffix or not side_file(path).is_file():
            continue
        found = read_json(side_file(path))
        try:
            tokens, seconds = tokens + int(found["tokens_generated"]), seconds + float(found["seconds"])
        except (KeyError, TypeError, ValueError):
            raise UserError(
                f"{side_file(path)} has no tokens_generated and seconds, by which comparisons count what {name} cost: "
                "sample it again, or remove the side file"
            ) from None
    return Cost(tokens, seconds)
