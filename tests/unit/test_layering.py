"""The rules of the package's structure, read from its source: who may import whom, and how long things may get."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "openrlhf_prefix"
HEAVY = {"ray", "vllm", "deepspeed", "openrlhf"}
FILES = sorted(PACKAGE.rglob("*.py"))
NAMES = [str(path.relative_to(PACKAGE)) for path in FILES]
ALGORITHM = sorted((PACKAGE / "algorithm").glob("*.py"))
MAX_FILE, MAX_FUNCTION = 300, 60


def imported(path: Path) -> Iterator[str]:
    """Full names of all modules that a file imports, inside functions too; relative imports are made absolute."""
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*start, *([node.module] if node.module else [])])
            yield from (f"{module}.{alias.name}" for alias in node.names)


# Imports run downwards only, and rooms of one floor do not know each other.
FLOORS = [
    ["api"],
    ["cli"],
    ["verbs"],
    ["comparison", "runtime.audit", "runtime.evaluate"],
    ["runtime.driver"],
    ["plan"],
    ["runtime.controller"],
    ["runtime.engine", "runtime.learner"],
    ["runtime.platform"],
    ["runtime.rows", "runtime.weights", "runtime.seams", "runtime.deadlines", "runtime.context"],
    ["settings"],
    ["report", "checkpoint"],
    ["data"],
    ["reward", "evaluation"],
    ["algorithm", "pins", "machine", "arguments"],
    ["errors"],
]
LEVEL = {room: len(FLOORS) - floor for floor, rooms in enumerate(FLOORS) for room in rooms}


def module_of(path: Path) -> str:
    """Dotted name below the package; the package itself is the empty name."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").rstrip(".")


MODULES = {module_of(path): path for path in FILES}


def arrows(path: Path) -> set[str]:
    """Modules of the package, named from below it, that a file imports."""
    own = (name.removeprefix("openrlhf_prefix.") for name in imported(path) if name.startswith("openrlhf_prefix."))
    return {name if name in MODULES else name.rpartition(".")[0] for name in own} - {""}


def room_of(module: str) -> str:
    return next(room for room in sorted(LEVEL, key=len, reverse=True) if f"{module}.".startswith(f"{room}."))


def test_the_walk_sees_the_package() -> None:
    """Rules over an empty list hold: the files below must be among those walked, and their imports be found."""
    assert {"cli.py", "algorithm/losses.py", "runtime/controller/trainer.py"} <= set(NAMES)
    assert "ray" in set(imported(PACKAGE / "runtime" / "controller" / "trainer.py"))
    assert {"settings.resolve", "runtime.driver.launch"} <= arrows(PACKAGE / "runtime" / "driver" / "train.py")
    assert "openrlhf_prefix.algorithm.schedules.PrefixSchedule" in set(imported(PACKAGE / "algorithm" / "sampler.py"))


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_only_the_runtime_imports_ray_vllm_deepspeed_or_openrlhf(path: Path) -> None:
    if path.relative_to(PACKAGE).parts[0] != "runtime":
        assert not {name for name in imported(path) if name.split(".")[0] in HEAVY}


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_no_import_runs_up_or_across_a_floor(path: Path) -> None:
    module = module_of(path)
    if module in ("", "runtime"):  # faces: the package names what it imports at its first use
        assert {room_of(name) for name in arrows(path)} == ({"api", "errors"} if not module else set())
        return
    room = room_of(module)
    wrong = {name for name in arrows(path) if room_of(name) != room and LEVEL[room_of(name)] >= LEVEL[room]}
    assert not wrong, f"{module} is on floor {LEVEL[room]}"


def test_no_files_import_each_other_in_a_circle() -> None:
    order = TopologicalSorter({module_of(path): arrows(path) - {module_of(path)} for path in FILES})
    order.prepare()  # CycleError names the circle


@pytest.mark.parametrize("folder", sorted({path.parent for path in FILES}), ids=lambda folder: folder.name)
def test_every_folder_says_what_it_is(folder: Path) -> None:
    assert ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8")))


@pytest.mark.parametrize("path", ALGORITHM, ids=lambda path: path.name)
def test_the_algorithm_imports_torch_the_standard_library_and_itself_alone(path: Path) -> None:
    allowed = {"torch", *sys.stdlib_module_names}
    foreign = {name for name in imported(path) if name.split(".")[0] not in allowed}
    assert not {name for name in foreign if not name.startswith("openrlhf_prefix.algorithm.")}


def test_importing_the_algorithm_loads_nothing_of_the_runtime() -> None:
    modules = [f"openrlhf_prefix.algorithm.{path.stem}".removesuffix(".__init__") for path in ALGORITHM]
    unwanted = sorted(HEAVY | {"transformers"})
    code = (
        f"import sys\nfor name in {modules!r}: __import__(name)\n"
        f"print([name for name in {unwanted!r} if name in sys.modules], 'torch' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[] True"


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_no_file_is_longer_than_300_lines(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_FILE


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_no_function_is_longer_than_60_lines(path: Path) -> None:
    functions = [
        node
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    ]
    lengths = {node.name: node.end_lineno - node.lineno + 1 for node in functions}
    assert not {name: length for name, length in lengths.items() if length > MAX_FUNCTION}
