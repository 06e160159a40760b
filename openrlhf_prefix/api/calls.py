"""`train`, `evaluate` and `compare` as functions: settings in, a folder or numbers out, mistakes as exceptions."""

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from openrlhf_prefix.api.folders import Comparison, Run
from openrlhf_prefix.api.process import call
from openrlhf_prefix.errors import UserError
from openrlhf_prefix.settings.config import BASE, flatten

Settings = Mapping[str, Any]
Where = str | os.PathLike[str]


def train(config: Settings | Where | None = None, *, flags: Settings | None = None, **more: Any) -> Run:
    """Trains, evaluates and exports, as `openrlhf-prefix train` does; returns when the run has ended.

    A process of its own runs it (api/process.py says why), so that it may be called again and again, from a notebook
    and from any thread. A Ctrl-C, or a notebook's stop button, saves the last finished step.

    Args:
        config: a YAML file, or what one holds: flags by their names, nested or dotted.
        flags: more of them, which win: {"actor.adam.lr": 1e-6}. None takes a flag of the file back.
        **more: the same for names without a dot, nested: actor={"adam": {"lr": 1e-6}}; a dotted one is
            **{"actor.adam.lr": 1e-6}.

    Example:
        run = prefix.train("my.yaml", flags={"run.dir": "runs/x", "ckpt.load_enable": True})

    Raises:
        UserError: a mistake in settings, data or machine; nothing has started.
        RunPaused, RunInterrupted: it was told to stop, and saved; with ckpt.load_enable the same call goes on.
        RunStopped: it stopped for another reason, which the message says.
    """
    given = {**flatten(flags or {}), **flatten(more)}
    settings = given if config is None or isinstance(config, Mapping) else {BASE: _path(config), **given}
    if isinstance(config, Mapping):
        settings = {**flatten(config), **given}
    with _yaml(settings, _name(config)) as path:
        return Run(call("train", ["--config", str(path)]))


def evaluate(
    model: Where | Run,
    *files: Where,
    against: Where | Run | Sequence[Where] | None = None,
    output: Where | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Samples a model on files of problems, as `openrlhf-prefix evaluate` does, in a process of its own.

    Args:
        model: HF folder or hub name, or a run, whose export is taken.
        files: of problems: ours, LUFFY's or verl's parquet, a hub name.
        against: a base to compare with, a model or results; then results of models between it and now.
        output: folder for results and a line a sample.
        **options: of the verb without their dashes: samples=32, k=[1, 32], max_new_tokens=2048, resume=True.

    Returns:
        What results_<time>.json holds: "config_general", "results" (task -> numbers with their standard errors),
        "problems" (task -> problem -> right samples); with `against` "comparison" beside them.

    Raises:
        UserError: before an engine starts.
    """
    bases = [against] if isinstance(against, (str, os.PathLike, Run)) else list(against or ())
    given = {"against": [_model(base) for base in bases] or None, "output": output, **options}
    found: dict[str, Any] = call("evaluate", [_model(model), *(os.fspath(name) for name in files), *_words(given)])
    return found


def compare(config: Settings | Where, *, folder: Where | None = None, jobs: int = 1) -> Comparison:
    """Methods x seeds, tuned alike, as `openrlhf-prefix compare` does; the same call goes on where it was stopped.

    Args:
        config: the YAML file of a comparison, or what one holds.
        folder: where runs and results go; not set: runs/<name of the file>.
        jobs: runs at a time.

    Raises:
        UserError: before a run starts. RunStopped: a run failed, or it was stopped.
    """
    options = _words({"folder": folder, "jobs": jobs})
    if not isinstance(config, Mapping):
        return Comparison(call("compare", ["--config", _path(config), *options]))
    if folder is None:
        raise UserError("a comparison from Python's own settings has no file to be named after: give its folder")
    with _yaml(config, "comparison") as path:
        return Comparison(call("compare", ["--config", str(path), *options]))


def _path(name: Where) -> str:
    return str(Path(name).expanduser().absolute())


def _model(model: Where | Run) -> str:
    return str(model.export) if isinstance(model, Run) else os.fspath(model)


def _name(config: Settings | Where | None) -> str:
    """Of a config file for the run: a run without run.dir is named after its file, or its file's folder."""
    if config is None or isinstance(config, Mapping):
        return "python"
    path = Path(_path(config))
    return f"{path.parent.name}/{path.stem}"


@contextmanager
def _yaml(settings: Settings, name: str) -> Iterator[Path]:
    """The settings as a file, in a folder that nobody else can read: they may hold a key."""
    plain = {key: os.fspath(value) if isinstance(value, os.PathLike) else value for key, value in settings.items()}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.yaml"
        path.parent.mkdir(exist_ok=True)
        try:
            path.write_text(yaml.safe_dump(plain), encoding="utf-8")
        except yaml.representer.RepresenterError as error:
            raise UserError(f"settings are numbers, texts, true or false, lists and mappings, not {error}") from None
        yield path


def _words(options: Settings) -> list[str]:
    """Options as words of a command line: True is a bare switch, None and False are left out."""
    words: list[str] = []
    for name, value in options.items():
        if value is None or value is False:
            continue
        values = [] if value is True else value if isinstance(value, (list, tuple)) else [value]
        words += [f"--{name}", *map(str, values)]
    return words
