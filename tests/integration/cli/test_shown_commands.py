"""Every command that README and docs show is one: the verb takes it, the script is there and reads its variables."""

import re
import shlex
from pathlib import Path

import pytest

pytest.importorskip("openrlhf")

from openrlhf_prefix.errors import UserError  # noqa: E402
from openrlhf_prefix.settings import config  # noqa: E402
from openrlhf_prefix.settings.resolve import build_parser  # noqa: E402
from openrlhf_prefix.verbs import VERBS  # noqa: E402

ROOT = Path(__file__).parents[3]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
FENCE = re.compile(r"^```[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`]+)`")
PROGRAMS = ("openrlhf-prefix", ".venv/bin/openrlhf-prefix")
ASSIGNMENT = re.compile(r"[A-Z][A-Z_]*=")
ENDS = {"&&", "||", "|", ";", ">", ">>", "2>", "&"}
PASSES_FLAGS = {"train_single_node.sh": "train", "train_multi_node.sh": "train", "submit.sh": "submit"}


def commands(page: str) -> list[list[str]]:
    """Words of every command of ours, in code blocks and between backticks; those with [...] are patterns of one."""
    lines = [line for block in FENCE.findall(page) for line in block.replace("\\\n", " ").splitlines()]
    lines += [" ".join(inline.split()) for inline in INLINE.findall(FENCE.sub("", page))]
    found = []
    for line in lines:
        if not any(name in line for name in ("openrlhf-prefix ", "bash scripts/", "openrlhf_prefix.cli")):
            continue
        try:
            words = shlex.split(line.strip().removeprefix("$ "), comments=True)
        except ValueError:  # prose of a transcript, with an apostrophe
            continue
        part: list[str] = []
        for word in [*words, ";"]:
            if word in ENDS or word.endswith(";"):
                found.append([*part, word.rstrip(";")] if word.endswith(";") and len(word) > 1 else part)
                part = []
            else:
                part.append(word)
    return [words for words in found if is_ours(words)]


def is_ours(words: list[str]) -> bool:
    rest = [word for word in words if not ASSIGNMENT.match(word)]
    shown = bool(rest) and (rest[0] in PROGRAMS or rest[:1] == ["bash"] and rest[1:2] != ["-c"])
    return shown and not any("[" in word or word == "..." or word.isupper() and word == "VERB" for word in rest)


def check(words: list[str]) -> None:
    """Raises UserError or AssertionError where a command would not start."""
    variables = [word.partition("=")[0] for word in words if ASSIGNMENT.match(word)]
    program, *rest = [word for word in words if not ASSIGNMENT.match(word)]
    if program != "bash":
        parse(rest[0], rest[1:])
        return
    script = ROOT / rest[0]
    assert script.is_file(), f"there is no {rest[0]}"
    text = (
        "".join(path.read_text() for path in script.parent.glob("*.sh"))
        + (ROOT / "openrlhf_prefix/verbs.py").read_text()
    )
    text += "".join(path.read_text() for path in (ROOT / "openrlhf_prefix" / "runtime").rglob("*.py"))
    assert all(re.search(rf"\b{name}\b", text) or name == "LONG" for name in variables), f"nothing reads {variables}"
    if script.name in PASSES_FLAGS:
        parse(PASSES_FLAGS[script.name], rest[1:])


def parse(name: str, argv: list[str]) -> None:
    """What the verb does with its arguments before it does anything."""
    if name in ("--version", "--help"):
        return
    if name not in VERBS:
        raise UserError(f"unknown verb {name}")
    for config_file in (word for word in argv if word.startswith("configs/")):
        assert (ROOT / config_file).exists(), config_file
    verb = VERBS[name]
    if "--help" in argv or not argv:
        return
    if not verb.flags:
        try:
            verb.parser().parse_args(argv)
        except SystemExit as ended:
            assert ended.code == 0
        return
    _, flags = verb.load().parser().parse_known_args(argv)
    parser = build_parser()
    settings = config.read_argv(parser, flags)
    config.parse(parser, settings)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_shown_command_parses(page: Path) -> None:
    wrong = []
    for words in commands(page.read_text()):
        try:
            check(words)
        except (UserError, AssertionError) as error:
            wrong.append(f"{shlex.join(words)}: {error}")
    assert not wrong


def test_commands_are_found_in_the_pages() -> None:
    """Patterns that find nothing would pass."""
    shown = [words for page in PAGES for words in commands(page.read_text())]
    assert {"train", "plan", "compare", "export", "evaluate", "doctor", "data"} <= {words[1] for words in shown}
    assert sum(words[0] != "openrlhf-prefix" for words in shown) >= 5


SAMPLE = """
Text with `openrlhf-prefix train --config
x.yaml`, and `openrlhf-prefix VERB ...`.
```bash
A_B=1 bash scripts/submit.sh --config my.yaml \\
  --prefix.keep 0.5     # a comment
$ openrlhf-prefix embed x && openrlhf-prefix compare --config configs/compare.yaml
openrlhf-prefix train --config FILE [--any.flag value ...]
it's a transcript of openrlhf-prefix train
```
"""


def test_what_a_command_is() -> None:
    assert commands(SAMPLE) == [
        ["A_B=1", "bash", "scripts/submit.sh", "--config", "my.yaml", "--prefix.keep", "0.5"],
        ["openrlhf-prefix", "embed", "x"],
        ["openrlhf-prefix", "compare", "--config", "configs/compare.yaml"],
        ["openrlhf-prefix", "train", "--config", "x.yaml"],
    ]


@pytest.mark.parametrize(
    "command",
    [
        "openrlhf-prefix trian --config x.yaml",
        "openrlhf-prefix train --prefix.kep 0.5",
        "openrlhf-prefix train --prefix.keep half",
        "openrlhf-prefix plan --gpu-memory many",
        "openrlhf-prefix export runs/x",
        "openrlhf-prefix compare --config configs/none.yaml",
        "bash scripts/none.sh",
        "NO_SUCH_VARIABLE=1 bash scripts/submit.sh --config my.yaml",
        "bash scripts/submit.sh --config my.yaml --prefix.kep 1",
    ],
)
def test_a_command_that_is_wrong_is_found(command: str) -> None:
    with pytest.raises((UserError, AssertionError)):
        check(shlex.split(command))
