"""What becomes of OpenRLHF's own launch scripts: each train_ppo_ray command line, checked as `train` checks it.

    git clone https://github.com/OpenRLHF/OpenRLHF
    python benchmarks/openrlhf_scripts.py OpenRLHF/examples/scripts            a table in Markdown

Flags only: the models, data sets and reward files of the scripts are not looked for. Where a script is refused for a
flag of an earlier version, or for a missing rollout.max_new_tokens, it is tried again with that mended, so that the
table shows what is left. Scripts are read, never run; a variable that the script does not set stands for itself.
"""

import argparse
import re
import shlex
import sys
from contextlib import redirect_stdout
from pathlib import Path

from openrlhf_prefix.errors import UserError
from openrlhf_prefix.settings import renamed
from openrlhf_prefix.settings.resolve import resolve

COMMAND = "openrlhf.cli.train_ppo_ray"
LENGTH = ("--rollout.max_new_tokens", "1024")  # what OpenRLHF takes from each prompt's rest of the context
TRIES = 4


def command_line(script: str) -> list[str]:
    """The words after train_ppo_ray, with the script's own variables and arrays put in; empty where there is none.

    Example: 'M=qwen\\nA=(--a ${M})\\npython -m openrlhf.cli.train_ppo_ray ${A[@]} \\\\\\n --b' -> --a qwen --b
    """
    lines = [line for line in script.splitlines() if not line.lstrip().startswith("#")]
    text = "\n".join(lines).replace("\\\n", " ")
    if COMMAND not in text:
        return []
    found = dict(re.findall(r'^(\w+)="?([^"\n(]*)"?$', text, flags=re.MULTILINE))
    arrays = dict(re.findall(r"^(\w+)=\(\n(.*?)^\)", text, flags=re.MULTILINE | re.DOTALL))
    words = text.split(COMMAND, 1)[1].split("\n", 1)[0].partition('" &>>')[0]
    for _ in range(3):  # arrays hold variables, variables hold others
        words = re.sub(r"\$\{(\w+)\[@\]\}", lambda name: " ".join(arrays[name[1]].split()), words)
        words = re.sub(r"\$\{?(\w+)\}?", lambda name: found.get(name[1], name[1]), words)
    return shlex.split(words)


def verdict(argv: list[str]) -> tuple[str, str]:
    """(what was mended on the way, the last word)."""
    mended = []
    for _ in range(TRIES):
        try:
            with redirect_stdout(sys.stderr):  # OpenRLHF's warnings
                resolved = resolve(argv, files=False)
        except UserError as error:
            if "renamed flags" in str(error):
                argv = modern(argv)
                mended.append("today's names of its flags")
            elif "rollout.max_new_tokens" in str(error):
                argv = [*argv, *LENGTH]
                mended.append(" ".join(LENGTH))
            else:
                return ", ".join(mended), f"refused: {error}"
        else:
            return ", ".join(mended), "; ".join(["accepted", *resolved.notes])
    raise AssertionError(f"mended {TRIES} times and still refused: {mended}")


def modern(argv: list[str]) -> list[str]:
    """The command line with the flags of earlier versions as the refusal spells them."""
    given = renamed.written_in(argv)
    words = [word for name, value in given.items() for word in _words(name, value) if not renamed.is_old(name)]
    return [*words, *shlex.split(" ".join(renamed.todays(given)))]


def _words(name: str, value: object) -> list[str]:
    return [f"--{name}", *map(str, value if isinstance(value, list) else [value])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="examples/scripts of a checkout of OpenRLHF")
    print("| script | add | then |\n| --- | --- | --- |")
    for path in sorted(parser.parse_args().folder.rglob("*.sh")):
        if argv := command_line(path.read_text(encoding="utf-8")):
            mended, said = verdict(argv)
            print(f"| `{path.name}` | {mended} | {said.replace('|', '/')} |")


if __name__ == "__main__":
    main()
