"""Ray and vLLM where they are not installed: names that can be imported, and nothing that can be used.

OpenRLHF imports both wherever it trains. A training process alone needs of Ray that a decorated class can be had again
as it was (runtime/seams.py reads `__ray_metadata__`), and that answers can be waited for. Every other name is a class
that says, when it is made, that its package is not here.
"""

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

PACKAGES = ("ray", "vllm")


def install() -> list[str]:
    """Makes the missing ones of PACKAGES importable in this process; returns their names."""
    found = {name: importlib.util.find_spec(name) for name in PACKAGES}
    missing = [name for name, spec in found.items() if spec is None or spec.origin is None]  # or a mere folder
    if missing:
        sys.meta_path.insert(0, Finder(missing))
    return missing


def used() -> list[str]:
    """The packages that this process has stand-ins of."""
    return [name for finder in sys.meta_path if isinstance(finder, Finder) for name in finder.packages]


def remote(*given: Any, **options: Any) -> Any:
    """@ray.remote, with options or without."""
    if options or not given:
        return remote
    return SimpleNamespace(__ray_metadata__=SimpleNamespace(modified_class=given[0]))


def get(answers: Any) -> Any:
    """ray.get() of answers, each of which has a result()."""
    return [answer.result() for answer in answers] if isinstance(answers, list) else answers.result()


class StandIn(ModuleType):
    """A package or module whose every name is there, until it is used."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        def refuse(self: Any, *given: Any, **options: Any) -> None:
            raise RuntimeError(f"{type(self).__module__}.{type(self).__name__} is not here: the package is missing")

        return type(name, (), {"__init__": refuse, "__module__": self.__name__})


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds stand-ins for the packages and all that could be below them."""

    def __init__(self, packages: list[str]) -> None:
        self.packages = packages

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        if name.partition(".")[0] not in self.packages:
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        module = StandIn(spec.name)
        if spec.name == "ray":
            module.remote, module.get = remote, get
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Nothing to run."""
