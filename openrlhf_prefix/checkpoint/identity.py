"""Does a checkpoint belong to this run? What must be the same, and what may change but is said.

    refused    dataset (after all flags that choose and cut rows), tokenizer, model, ranks and ZeRO stage, and flags
               whose old value is part of the saved state, so that a new one would have no effect or no meaning
    said       every other changed flag, and changed package versions: the run goes on with the new ones
    silent     where things are written, what is logged, when is saved and evaluated

Facts are JSON: {"flags": {name: value}, "versions": {package: version}, "dataset", "tokenizer", "model": hex digests,
"problems": int, "ranks": int, "zero_stage": int}.
"""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

from openrlhf_prefix.data.problems import Problem

# Flag, or group of flags with a trailing dot -> why a checkpoint fixes it.
OPTIMIZER = "DeepSpeed restores the saved value with the optimizer and its scheduler"
COUNTED = "data position and step counter are counted in it"
SHAPE = "the saved weights and optimizer states have the shape it gave them"
FIXED = {
    "actor.adam.": OPTIMIZER,
    "actor.muon.": OPTIMIZER,
    "actor.optim": OPTIMIZER,
    "actor.lr_scheduler": OPTIMIZER,
    "ds.lora.": SHAPE,
    "mask.method": "the mask is part of the checkpoint",
    "mask.share": "the mask is part of the checkpoint",
    "ds.param_dtype": SHAPE,
    "ds.adam_offload": SHAPE,
    "ds.grad_accum_dtype": SHAPE,
    "rollout.batch_size": COUNTED,
    "rollout.n_samples_per_prompt": COUNTED,
    "train.batch_size": COUNTED,
    "train.max_epochs": COUNTED,
    "train.seed": "all draws of the run come from it",
}
SILENT = ("run.", "logger.", "ckpt.", "eval.", "actor.model_name_or_path", "data.prompt_dataset")
SILENT += ("mask.file", "mask.examples")  # read before the first step alone


def dataset_fingerprint(problems: Iterable[Problem]) -> str:
    """Depends on every id, answer, token, limit and pass rate, and on the order of the problems."""
    digest = hashlib.sha256()
    for problem in problems:
        digest.update(f"{problem.id}\x1f{problem.source}\x1f{problem.answer}\x1f{problem.limits}\x1f".encode())
        if problem.pass_rate is not None:
            digest.update(f"{problem.pass_rate}\x1f".encode())
        for ids in (problem.prompt_ids, *problem.demonstrations):
            digest.update(len(ids).to_bytes(8, "big") + ids.tobytes())
    return digest.hexdigest()


def refusal(saved: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """The sentence that says why a checkpoint cannot go on as this run; None where it can."""
    name = now["flags"].get("actor.model_name_or_path")
    if saved["model"] != now["model"]:
        return (
            f"it was trained from another model than {name} (its config or weights differ): name that one in "
            "--actor.model_name_or_path, or start a new run"
        )
    if saved["tokenizer"] != now["tokenizer"]:
        return f"it was trained with another tokenizer or chat template than that of {name}: put the old one back"
    if saved["dataset"] != now["dataset"]:
        flags = [line for line in changes(saved, now) if line.startswith(("data.", "prefix.", "hybrid."))]
        hint = f" ({'; '.join(flags)})" if flags else ""
        return (
            f"its data position belongs to another dataset: {saved['problems']} problems then, {now['problems']} now, "
            f"and they differ{hint}: give the old data and data flags, or start a new run from its export"
        )
    shape = "{ranks} ranks with ZeRO-{zero_stage}"
    if shape.format(**saved) != shape.format(**now):
        return (
            f"it was written by {shape.format(**saved)}, this run has {shape.format(**now)}: use as many (actor."
            "num_nodes x num_gpus_per_node, ds.zero_stage), or export it and start a new run from the export, "
            "without its optimizer states (openrlhf-prefix export CHECKPOINT OUT; --actor.model_name_or_path OUT)"
        )
    for flag, (old, new) in _changed_flags(saved, now).items():
        if reason := _fixed(flag):
            return f"{flag} was {old} and is {new}: {reason}; give {old}, or start a new run from its export"
    return None


def _fixed(flag: str) -> str | None:
    group = [reason for name, reason in FIXED.items() if name.endswith(".") and flag.startswith(name)]
    return FIXED.get(flag) or (group[0] if group else None)


def changes(saved: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """A line for every flag and package that is another one now."""
    lines = [f"{name} {old} -> {new}" for name, (old, new) in _changed_flags(saved, now).items()]
    old, new = saved["versions"], now["versions"]
    versions = [name for name in sorted({*old, *new}) if old.get(name) != new.get(name)]
    return lines + [f"{name} {old.get(name)} -> {new.get(name)}" for name in versions]


def _changed_flags(saved: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    old, new = saved["flags"], now["flags"]
    names = [name for name in sorted({*old, *new}) if not name.startswith(SILENT)]
    return {name: (old.get(name), new.get(name)) for name in names if old.get(name) != new.get(name)}
