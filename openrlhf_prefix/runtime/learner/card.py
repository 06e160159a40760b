"""README.md of an export, the model's card on the hub: what it is, made of what, how good, and under which licence.

All of it is known to a checkpoint (checkpoint/identity.py) and to its run folder, so that the export of a run and that
of its last checkpoint have the same card.
"""

import re
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

import openrlhf_prefix
from openrlhf_prefix.evaluation import held_out
from openrlhf_prefix.evaluation.intervals import bootstrap_interval
from openrlhf_prefix.report.run_folder import RunFolder
from openrlhf_prefix.settings.reference import all_flags

NAME = "README.md"
HEAD = re.compile(r"\A---\n(.*?)\n---\n", re.DOTALL)
# Of a place or a machine, or said in words of their own.
LEFT_OUT = ("run.", "ckpt.", "logger.", "actor.model_name_or_path", "data.prompt_dataset", "eval.dataset")


def write_card(export: Path, facts: Mapping[str, Any], step: int, run: Path) -> None:
    """Writes the card of an export.

    Args:
        export: folder of it.
        facts: of the run or the checkpoint, see checkpoint/identity.py.
        step: whose weights it holds.
        run: folder of the run; one without evaluations gives a card without scores.
    """
    (export / NAME).write_text(card(facts, step, run), encoding="utf-8")


def card(facts: Mapping[str, Any], step: int, run: Path) -> str:
    """The text of write_card()."""
    flags, base = facts["flags"], facts["flags"]["actor.model_name_or_path"]
    method, name = flags["hybrid.preset"], _short(base)
    head: dict[str, Any] = {"library_name": "transformers", "tags": ["openrlhf_prefix", method]}
    if licence := licence_of(base):
        head["license"] = licence
    if not Path(base).is_absolute():
        head["base_model"] = base
    data, ours = _short(flags["data.prompt_dataset"]), "[openrlhf_prefix](https://arxiv.org/abs/2507.01679)"
    versions = {"openrlhf_prefix": openrlhf_prefix.__version__, **facts["versions"]}
    parts = [
        f"---\n{yaml.safe_dump(head, sort_keys=False)}---",
        f"# {name} after {step} steps of {method}",
        f"Trained from `{name}` by {ours} with `--hybrid.preset {method}`.",
        *_scores(run, step, flags["eval.n_samples_per_prompt"]),
        "## Data",
        f"{facts['problems']} problems of `{data}`; fingerprint of their ids, answers, prompts and demonstrations: "
        f"`{facts['dataset']}`.",
        "## Licence",
        f"The base model says `{licence}`."
        if licence
        else "The base model's folder names none: ask where it is from.",
        "## Settings",
        "Other than the defaults of the method:",
        f"```yaml\n{yaml.safe_dump(changed_flags(flags))}```",
        "## Versions",
        ", ".join(f"{package} {version}" for package, version in sorted(versions.items())),
    ]
    return "\n\n".join(parts) + "\n"


def licence_of(model: str) -> str | None:
    """What the card in the model's folder says; of a hub model that in the cache."""
    if Path(model).is_dir():
        path: Any = Path(model) / NAME
    else:
        from huggingface_hub import try_to_load_from_cache

        path = try_to_load_from_cache(model, NAME)
    if not isinstance(path, (str, Path)) or not Path(path).is_file():
        return None
    found = HEAD.match(Path(path).read_text(encoding="utf-8"))
    try:
        head = yaml.safe_load(found[1]) if found else None
    except yaml.YAMLError:
        return None
    return head.get("license") if isinstance(head, dict) else None


def changed_flags(flags: Mapping[str, Any]) -> dict[str, Any]:
    """Those that differ from what the preset alone gives."""
    usual = {flag.action.dest: _listed(flag.moved.get(flags["hybrid.preset"], flag.default)) for flag in all_flags()}
    return {
        name: value
        for name, value in sorted(flags.items())
        if not name.startswith(LEFT_OUT) and name in usual and value != usual[name]
    }


def _listed(value: Any) -> Any:
    """As JSON has it, where facts come from."""
    return list(value) if isinstance(value, tuple) else value


def _scores(run: Path, step: int, samples: int) -> list[str]:
    tallies = held_out.read(RunFolder(run).read("evaluations"))
    base, now = (held_out.chances(tallies.get(at, []), samples) for at in (0, step))
    if not now:
        return []
    rows = [f"| {name.removeprefix('eval_')} | {_score(base.get(name))} | {_score(now[name])} |" for name in now]
    said = (
        f"Held-out problems, {samples} samples each, 95 % intervals over problems; pass1 is the mean of all samples."
    )
    return ["## Scores", said, "\n".join(["| | base | this model |", "| --- | --- | --- |", *rows])]


def _score(chances: Mapping[str, float] | None) -> str:
    if not chances:
        return "-"
    values = list(chances.values())
    low, high = bootstrap_interval(values)
    return f"{100 * statistics.fmean(values):.1f} % ({100 * low:.1f} to {100 * high:.1f})"


def _short(names: str) -> str:
    """Local paths without the folders above: they are of one machine."""
    return ", ".join(
        "/".join(Path(name).parts[-2:]) if Path(name).is_absolute() else name for name in names.split(",")
    )
