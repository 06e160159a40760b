"""What is installed, against the pins."""

import importlib.metadata

import pytest

from openrlhf_prefix import pins


def test_a_package_says_where_it_differs_from_its_pin_or_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    here = importlib.metadata.version("pytest")
    monkeypatch.setattr(pins, "COMPARED", {"pytest": here, "pyyaml": "0.1", "no-such-package": "1.0"})
    monkeypatch.setattr(pins, "OF_ONE_STACK", {"pytest-xdist": "0.2", "not-of-this-stack": "2.0"})
    yaml, xdist = (importlib.metadata.version(name) for name in ("pyyaml", "pytest-xdist"))
    assert [str(package) for package in pins.installed()] == [
        f"pytest {here}",
        f"pyyaml {yaml} (pinned 0.1)",  # its folder is spelled PyYAML
        "no-such-package missing (pinned 1.0)",
        f"pytest-xdist {xdist} (pinned 0.2)",
    ]
