"""An evaluation beside earlier ones: of a base, which is a model or results, and of models between base and now.

What cannot be compared is refused before an engine starts: other problems, other settings, a base without results that
is no model. A base that is a model is evaluated first, with the same options in a process of its own, so that its
engine has given the GPU back when ours starts.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openrlhf_prefix.arguments import Parser
from openrlhf_prefix.data.files import check_exists
from openrlhf_prefix.errors import RunStopped, UserError
from openrlhf_prefix.evaluation import paired, results
from openrlhf_prefix.evaluation.forgetting import forgetting
from openrlhf_prefix.evaluation.records import refuse_changes
from openrlhf_prefix.runtime.evaluate.prepare import Prepared, model_flags
from openrlhf_prefix.settings.model import load_tokenizer

# They may differ between two evaluations that are compared.
FREE = ("model", "model_hash", "seed", "file", "max_len", "versions", "seconds", "template_hash")
# Not passed on to the evaluation of a base.
OWN = ("help", "model", "datasets", "against", "learned", "json", "output", "resume")
KL = "kl_"


@dataclass(frozen=True)
class Bases:
    """What --against names: the base's model, and results of the base (None: to be made) and of later ones."""

    model: str
    base: dict[str, Any] | None
    later: list[dict[str, Any]]


def find(options: argparse.Namespace, prepared: Prepared) -> Bases:
    """Reads and checks what --against names. Raises UserError."""
    first, *more = options.against
    if unknown := sorted(set(options.learned) - set(prepared.samples)):
        raise UserError(f"--learned {' '.join(unknown)}: the tasks are {', '.join(prepared.samples)}")
    later = [_results(name, prepared) for name in more]
    if _has_results(Path(first)):
        base = _results(first, prepared)
        return Bases(base["config_general"]["model"], base, later)
    if Path(first).is_dir() and not (Path(first) / "config.json").exists():
        raise UserError(f"--against {first}: it holds neither a model (config.json) nor results (results_*.json)")
    check_exists("--against", first)
    load_tokenizer(model_flags(argparse.Namespace(**{**vars(options), "model": first})))
    return Bases(first, None, later)


def _has_results(path: Path) -> bool:
    return path.is_file() or path.is_dir() and any(path.glob("results_*.json"))


def _results(name: str, prepared: Prepared) -> dict[str, Any]:
    """Results that can be held against this evaluation, of its tasks alone. Raises UserError."""
    check_exists("--against", name)
    found = results.newest(Path(name))
    old, new = found["config_general"], prepared.settings
    tasks = old.get("tasks", {})
    if missing := sorted(set(new["tasks"]) - set(tasks)):
        raise UserError(
            f"--against {name} has no {', '.join(missing)} (it has {', '.join(tasks)}): give the same files"
        )
    old = {**old, "tasks": {task: tasks[task] for task in new["tasks"]}}
    refuse_changes(f"{name} cannot be compared with this evaluation", old, new, FREE)
    if old["template_hash"] != new["template_hash"]:
        print(f"note: {name} has another chat template than {new['model']}", file=sys.stderr)
    return found | {"problems": {task: found["problems"][task] for task in new["tasks"]}}


def evaluate_base(bases: Bases, options: argparse.Namespace, parser: Parser) -> dict[str, Any]:
    """Results of the base; where it has none yet, made in --output/base, or in a folder that does not stay."""
    if bases.base is not None:
        return bases.base
    with tempfile.TemporaryDirectory() as passing:
        folder = options.output / "base" if options.output else Path(passing)
        words = ["evaluate", bases.model, *options.datasets, *words_of(options, parser), "--output", str(folder)]
        command = [sys.executable, "-W", "ignore", "-m", "openrlhf_prefix.cli", *words]
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}  # it imports what we import
        ended = subprocess.run([*command, "--resume"], stdout=subprocess.DEVNULL, env=env)
        if ended.returncode:
            raise RunStopped(f"the evaluation of {bases.model} ended with exit code {ended.returncode}; see above")
        return results.newest(folder)


def words_of(options: argparse.Namespace, parser: Parser) -> list[str]:
    """The options of an evaluation as words of a command line, without those that are of this one alone."""
    words: list[str] = []
    for action in parser._actions:
        value = getattr(options, action.dest, None)
        if action.dest in OWN or action.dest.startswith(KL) or value in (None, False, []):
            continue
        words.append(action.option_strings[0])
        if value is not True:
            words += map(str, value) if isinstance(value, list) else [str(value)]
    return words


def compared(
    now: Mapping[str, Any], base: Mapping[str, Any], bases: Bases, options: argparse.Namespace
) -> tuple[dict[str, Any], str]:
    """(what comparison_<time>.json holds, the same for a person)."""
    shares = results.shares(now)
    rows = paired.compare(shares, results.shares(base), options.seed)
    history = [
        {task: _mean(found) for task, found in results.shares(one).items()} for one in (base, *bases.later, now)
    ]
    lost = forgetting(history, options.learned)
    record = {
        "model": now["config_general"]["model"],
        "base": bases.model,
        "later": [one["config_general"]["model"] for one in bases.later],
        "resamples": paired.RESAMPLES,
        "seed": options.seed,
        "gains": [row.row() for row in rows],
        "forgetting": lost.row(),
    }
    return record, f"{paired.table(rows)}\n\n{lost.text()}"


def _mean(shares: Mapping[str, float]) -> float:
    return sum(shares.values()) / len(shares)
