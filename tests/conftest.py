"""Marks and groups shared by all tests."""

import os
import warnings

import pytest

# Nothing here may reach for a hub.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
warnings.filterwarnings("ignore", message="The pynvml package is deprecated", category=FutureWarning)

# Files whose tests look at the same runs of the stack, and so belong into one process of `pytest -n 2`.
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
        name = item.path.name
        item.add_marker(pytest.mark.xdist_group(TOGETHER.get(name, name)))
        if item.get_closest_marker("long") and not os.environ.get("LONG"):
            item.add_marker(pytest.mark.skip(reason="long: LONG=1 runs it"))
