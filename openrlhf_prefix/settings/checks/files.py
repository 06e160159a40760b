"""Files that the flags name are there."""

import argparse
from types import SimpleNamespace

from openrlhf_prefix.data.files import check_datasets, check_exists
from openrlhf_prefix.errors import UserError
from openrlhf_prefix.settings.derived import teacher_folder


def check_files(args: argparse.Namespace | SimpleNamespace) -> None:
    """Every local file the flags name exists; `args` is nested. Hub names (org/name) are left to the hub."""
    named = {
        "actor.model_name_or_path": args.actor.model_name_or_path,
        "train.agent_func_path": args.train.agent_func_path,
        "teacher.model": teacher_folder(args),
    }
    sets = {"data.prompt_dataset": args.data.prompt_dataset, "eval.dataset": args.eval.dataset}
    sets["mask.file"] = args.mask.file
    for url in args.reward.remote_url if isinstance(args.reward.remote_url, list) else []:
        if url.endswith(".py"):
            named["reward.remote_url"] = url
    for flag in ("actor.model_name_or_path", "data.prompt_dataset"):
        if not {**named, **sets}[flag]:
            raise UserError(f"{flag} is not set: give --{flag}, or put it into the config file")
    for flag, value in named.items():
        for path in str(value).split(",") if value else []:
            check_exists(flag, path.strip())
    for flag, names in sets.items():
        check_datasets(flag, names or "")
