"""OpenRLHF's own command line, without its imports.

`openrlhf.cli.train_ppo_ray` builds its parser and checks the flags inside `if __name__ == "__main__"`, where nothing
can be imported. That block is read from the installed source and split in three:

    parser.add_argument(...) ...        executed by `build_parser`
    args = parser.parse_args()
    hierarchize, checks, defaults ...   executed by `check`
    train(args)                         called by launch.py

So every upstream flag, default and check stays in force, and none of them is restated here. Nothing of ray, vllm or
deepspeed is imported: a dry run takes seconds.
"""

import argparse
import ast
import importlib.util
import os
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from openrlhf_prefix.errors import UserError
from openrlhf_prefix.pins import OPENRLHF
from openrlhf_prefix.settings.config import nested

MODULE = "openrlhf.cli.train_ppo_ray"


def build_parser() -> argparse.ArgumentParser:
    """A fresh parser with all flags of OpenRLHF's train_ppo_ray."""
    namespace: dict[str, Any] = {"argparse": argparse, "datetime": datetime, "os": os}
    _execute(_split_main()[0], namespace)
    return namespace["parser"]


def check(flat: Mapping[str, Any]) -> SimpleNamespace:
    """The nested flags after OpenRLHF's own checks and derived defaults.

    Raises:
        UserError: with the message of the upstream assertion that failed.
    """
    namespace: dict[str, Any] = {"args": nested(flat)}
    try:
        _execute(_split_main()[1], namespace)
    except (AssertionError, ValueError, AttributeError, TypeError, ArithmeticError, ImportError) as error:
        raise UserError(f"OpenRLHF refuses these flags: {error}") from error
    return namespace["args"]


def _split_main() -> tuple[list[ast.stmt], list[ast.stmt]]:
    """Statements before and after `args = parser.parse_args()` of the `__main__` block, without train(args)."""
    body = _main_block(ast.parse(_source_path().read_text(encoding="utf-8")))
    for index, statement in enumerate(body):
        if isinstance(statement, ast.Assign) and "parse_args" in ast.unparse(statement.value):
            after = [node for node in body[index + 1 :] if "hierarchize" not in ast.unparse(node)]
            return body[:index], [node for node in after if ast.unparse(node) != "train(args)"]
    raise RuntimeError(f"{MODULE} no longer assigns parser.parse_args(): this needs openrlhf=={OPENRLHF}")


def _main_block(tree: ast.Module) -> list[ast.stmt]:
    for node in tree.body:
        if isinstance(node, ast.If) and "__main__" in ast.unparse(node.test):
            return node.body
    raise RuntimeError(f"{MODULE} no longer has a __main__ block: this needs openrlhf=={OPENRLHF}")


def _source_path() -> Path:
    spec = importlib.util.find_spec(MODULE) if importlib.util.find_spec("openrlhf") else None
    if spec is None or spec.origin is None:
        raise UserError(f"openrlhf=={OPENRLHF} is not installed in this environment: run scripts/setup.sh")
    return Path(spec.origin)


def _execute(statements: list[ast.stmt], namespace: dict[str, Any]) -> None:
    exec(compile(ast.Module(body=statements, type_ignores=[]), MODULE, "exec"), namespace)  # noqa: S102
