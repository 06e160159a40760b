"""Marks and groups shared by all tests."""

import os
import signal
import warnings
from pathlib import Path
from typing import Any

import pytest

# Nothing here may reach for a hub.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# A shell's job in the background ignores Ctrl-C, and so would every process that a test starts and interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)
warnings.filterwarnings("ignore", message="The pynvml package is deprecated", category=FutureWarning)

import torch  # noqa: E402, it says so

if torch.version.cuda and not torch.cuda.is_available():  # the GPU stack without a GPU, which a run refuses
    os.environ.setdefault("OPENRLHF_PREFIX_PLATFORM", "cpu")

# Files whose tests look at the same runs of the stack, and so belong into one process of `pytest -n 2`; any other file
# is a group of its own.
TOGETHER = {
    "test_training.py": "trained",
    "test_resume.py": "trained",
    "test_cluster.py": "two ranks",
    "test_two_nodes.py": "two ranks",
}


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "long: minutes by itself; LONG=1 bash scripts/test.sh runs it too")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("long") and not os.environ.get("LONG"):
            item.add_marker(pytest.mark.skip(reason="long: LONG=1 runs it"))


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist, whose own groups (loadgroup) pytest 9.2 does not know
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    from xdist.scheduler import LoadScopeScheduling

    class ByRuns(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            name = Path(nodeid.partition("::")[0]).name
            return TOGETHER.get(name, name)

    return ByRuns(config, log)
