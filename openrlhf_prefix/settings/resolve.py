"""From a command line to checked flags: what `train` and `--dry_run` share.

argv + YAML -> known names -> preset -> argparse -> our checks -> OpenRLHF's checks -> one nested object
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from openrlhf_prefix.algorithm.teacher import SELF
from openrlhf_prefix.data.files import check_template
from openrlhf_prefix.errors import UserError
from openrlhf_prefix.settings import (
    checks,
    config,
    flags,
    plugins,
    preset_flags,
    renamed,
    secrets,
    upstream_cli,
    upstream_flags,
)

CONTROL = ("config", "dry_run")
# Defaults of ours for flags that are OpenRLHF's: the row contract of data/problems.py, the method's own setting, and a
# scheduler without surprises for runs of a few steps.
DEFAULTS = {
    "data.input_key": "prompt",
    "data.label_key": "answer",
    "rollout.n_samples_per_prompt": 8,
    "ds.zero_stage": 3,
    "vllm.enable_prefix_caching": True,  # the rows of a group share their prompt
}
# Flag -> its default, in place of which it gets a folder of the run's.
PLACES = {
    "ckpt.path": ("./ckpt/checkpoints_ppo_ray", "checkpoints"),
    "ckpt.output_dir": ("./ckpt", "export"),
    "logger.tensorboard_dir": (None, "tensorboard"),
}
REFERENCE = {"num_nodes": 1, "num_gpus_per_node": 8}  # its default size, OpenRLHF's
# What `_fill` gives to those that are not set, in words.
FILLED = {
    "vllm.num_engines": "with train.colocate_all, those that fill the actor's GPUs",
    **{f"ref.{size}": f"{usual}; with train.colocate_all, the actor's" for size, usual in REFERENCE.items()},
    "reward.remote_url": f"{flags.MATH_VERIFY}, unless there is a reward model or an agent",
    "run.dir": "runs/<config>-<preset>-<time>",
    **{flag: f"<run.dir>/{place}" for flag, (_, place) in PLACES.items()},
}


@dataclass(frozen=True)
class Resolved:
    args: SimpleNamespace  # nested, as OpenRLHF wants it, after all checks
    flat: dict[str, Any]  # dotted name -> value before OpenRLHF's derived defaults: what config.yaml holds
    dry_run: bool
    notes: tuple[str, ...] = ()  # lines that the run starts with: flags without effect, what the preset brings


def resolve(argv: Sequence[str], files: bool = True) -> Resolved:
    """Checks a `train` command line, with the files it names unless `files` is off. UserError has cause and mend."""
    file = _config_file(_config_path(argv))
    renamed.refuse_old({**file, **renamed.written_in(argv)})
    command_line = config.read_argv(build_parser(), argv)
    control = {name: command_line.pop(name, None) for name in CONTROL}
    given = {**file, **command_line}
    explicit = {name: value for name, value in given.items() if value is not None}  # null: as if it were not there
    plugins.load(plugins.named_in(explicit))
    # Before the preset's defaults can fail on a consequence of a misspelling.
    config.check_names(given, build_parser())
    flat, notes = _settled(explicit, control["config"])
    args = upstream_cli.check(flat)
    checks.check_flags(args)
    secrets.refuse_spelt_out(args.reward.remote_url or [])
    if files:
        checks.check_files(args)
    kept = {name: value for name, value in flat.items() if name not in upstream_flags.IDLE}
    return Resolved(args=args, flat=kept, dry_run=bool(control["dry_run"]), notes=tuple(notes))


def flags_of(settings: dict[str, Any]) -> SimpleNamespace:
    """Nested flags after all checks that need no file, from settings alone: for runs without a command line."""
    plugins.load(plugins.named_in(settings))
    flat = config.parse(build_parser(), {**DEFAULTS, **preset_flags.preset_values(settings), **settings})
    args = upstream_cli.check({name: value for name, value in flat.items() if name not in CONTROL})
    checks.check_flags(args)
    return args


def _settled(explicit: dict[str, Any], config_path: str | None) -> tuple[dict[str, Any], list[str]]:
    """Values of all flags, typed, after OpenRLHF's flags that are refused here; and the notes about those given."""
    sizes, notes = preset_flags.preset_sizes(explicit, DEFAULTS)
    parser = build_parser()
    settings = {**DEFAULTS, **preset_flags.preset_values(explicit | sizes), **explicit, **sizes}
    flat = {name: value for name, value in config.parse(parser, settings).items() if name not in CONTROL}
    check_template(flat["data.input_template"])  # OpenRLHF drops one that has no place for the prompt
    upstream = upstream_cli.build_parser()
    actions = config.flag_actions(upstream)
    changed = {
        name: flat[actions[name].dest]
        for name in explicit
        if name in actions and flat[actions[name].dest] != upstream.get_default(actions[name].dest)
    }
    upstream_flags.refuse(changed)
    _fill(flat, explicit, config_path)
    return flat, [
        *notes,
        *preset_flags.unnamed_estimator(explicit, flat),
        *upstream_flags.notes(explicit, changed, actions),
    ]


def build_parser() -> argparse.ArgumentParser:
    """OpenRLHF's flags, then groups of ours, with the choices of plugins that are loaded."""
    parser = upstream_cli.build_parser()
    flags.add_flags(parser)
    group = parser.add_argument_group("command line", "not in a file")
    group.add_argument("--config", default=None, help="YAML file of flags, by their names, nested or dotted")
    group.add_argument("--dry_run", action="store_true", default=False, help="check, print, save the flags; stop")
    return parser


def _config_path(argv: Sequence[str]) -> str | None:
    """The value of --config, before the command line is read in full."""
    values = renamed.written_in(argv).get("config")
    return values[-1] if values else None


def _config_file(path: str | None) -> dict[str, Any]:
    if path is None:
        return {}
    settings = config.read_yaml(Path(path))
    for name in CONTROL:
        if name in settings:
            raise UserError(f"{path}: {name} belongs on the command line, not into the file")
    return settings


def _fill(flat: dict[str, Any], explicit: dict[str, Any], config_path: str | None) -> None:
    """Values that follow from others: paths inside the run folder, and the built-in verifier."""
    if flat["ckpt.load_enable"] and not flat["run.dir"]:
        raise UserError("--ckpt.load_enable: give the --run.dir of the run to go on with, a new one starts there")
    stem = Path(config_path).stem if config_path else "run"
    if config_path and stem == flat["hybrid.preset"]:  # configs/qwen3_8b/rft.yaml: the folder says more
        stem = Path(config_path).absolute().parent.name
    name = f"{stem}-{flat['hybrid.preset']}-{time.strftime('%Y%m%d-%H%M%S')}"
    run_dir = Path(flat["run.dir"] or Path("runs") / name).expanduser().absolute()
    flat["run.dir"] = str(run_dir)
    for flag, (default, place) in PLACES.items():
        if flat[flag] == default:
            flat[flag] = str(run_dir / place)
    if flat["train.colocate_all"] and flat["vllm.num_engines"] is None:
        gpus = flat["actor.num_nodes"] * flat["actor.num_gpus_per_node"]  # engines on every GPU of the actor
        flat["vllm.num_engines"] = max(gpus // max(flat["vllm.tensor_parallel_size"], 1), 1)
    if flat["train.colocate_all"] or flat["train.colocate_actor_ref"]:
        for size in REFERENCE:  # OpenRLHF wants them said, and wants them alike
            if f"ref.{size}" not in explicit:
                flat[f"ref.{size}"] = flat[f"actor.{size}"]
    if not (flat["reward.remote_url"] or flat["reward.model_name_or_path"] or flat["train.agent_func_path"]):
        flat["reward.remote_url"] = flags.MATH_VERIFY
    flat["hybrid.plugin"] = plugins.named_in(flat)
    for flag in ("actor.model_name_or_path", "data.prompt_dataset", "eval.dataset", "reward.remote_url", "mask.file"):
        flat[flag] = _absolute(flat[flag])
    if flat["teacher.model"] != SELF:  # which is no folder, even where one has that name
        flat["teacher.model"] = _absolute(flat["teacher.model"])


def _absolute(names: str | None) -> str | None:
    """Comma-separated names with every existing local path made absolute: workers run in other folders."""
    if not names:  # an empty text takes a flag of the config file back
        return None
    parts = (
        str(Path(part).expanduser().absolute()) if Path(part).expanduser().exists() else part
        for part in map(str.strip, names.split(","))
    )
    return ",".join(parts)
