"""The package's face: instant, and everything that it names is there."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import openrlhf_prefix as prefix

ROOT = Path(__file__).parents[3]
NAMES = {"train", "evaluate", "compare", "Run", "Comparison", "UserError", "RunStopped", "RunPaused"}


def loaded(code: str) -> set[str]:
    """Top-level packages beside the standard library's that a fresh Python has loaded after `code`."""
    code = f"import json, sys; before = set(sys.modules)\n{code}\nprint(json.dumps(sorted(set(sys.modules) - before)))"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return {name for name in json.loads(done.stdout) if name.partition(".")[0] not in sys.stdlib_module_names}


def test_the_import_loads_nothing_else() -> None:
    assert loaded("import openrlhf_prefix") == {"openrlhf_prefix"}


def test_no_function_needs_the_stack_to_be_named() -> None:
    """A notebook's first cell: torch and transformers take seconds, Ray and vLLM are for the process of the run."""
    found = {name.partition(".")[0] for name in loaded(f"from openrlhf_prefix import {', '.join(sorted(NAMES))}")}
    assert found >= {"openrlhf_prefix", "yaml"}
    assert not found & {"torch", "transformers", "ray", "vllm", "deepspeed", "openrlhf", "datasets", "pandas"}


def test_all_names_are_there_and_no_folder_hides_one() -> None:
    """`openrlhf_prefix.compare` was a folder once: its import would have taken the function's place."""

    assert NAMES <= set(prefix.__all__) <= set(dir(prefix))
    assert all(callable(getattr(prefix, name)) for name in prefix.__all__)
    folders = {path.name for path in (ROOT / "openrlhf_prefix").iterdir()}
    assert not {f"{name}{end}" for name in prefix.__all__ for end in ("", ".py")} & folders
    with pytest.raises(AttributeError, match="has no attribute 'trian'"):
        prefix.trian  # noqa: B018
