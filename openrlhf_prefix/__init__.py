"""Prefix-RFT (arXiv 2507.01679) on OpenRLHF: demonstrations and reinforcement in one stage.

    import openrlhf_prefix as prefix

    run = prefix.train("my.yaml", **{"actor.adam.lr": 1e-6})
    run.metrics, run.samples(), run.report(), run.export

docs/15-python.md shows the rest. What is named here is imported at its first use: the import of the package itself
loads nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from openrlhf_prefix.api.calls import compare, evaluate, train
    from openrlhf_prefix.api.folders import Comparison, Run
    from openrlhf_prefix.errors import RunInterrupted, RunPaused, RunStopped, UserError

__version__ = "0.1.0"
_PLACES = {
    "api.calls": ("compare", "evaluate", "train"),
    "api.folders": ("Comparison", "Run"),
    "errors": ("RunInterrupted", "RunPaused", "RunStopped", "UserError"),
}
__all__ = [
    "Comparison",
    "Run",
    "RunInterrupted",
    "RunPaused",
    "RunStopped",
    "UserError",
    "compare",
    "evaluate",
    "train",
]


def __getattr__(name: str) -> Any:
    for module, names in _PLACES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
