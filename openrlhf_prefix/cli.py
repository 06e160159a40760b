"""`openrlhf-prefix VERB ...`, also as `python -m openrlhf_prefix.cli VERB ...`.

Mistakes of the user end in one line and exit code 2; anything else is a fault of ours and shows its traceback.
"""

import atexit
import logging
import os
import platform
import signal
import subprocess
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import openrlhf_prefix
from openrlhf_prefix import pins
from openrlhf_prefix.arguments import PROGRAM
from openrlhf_prefix.errors import INTERRUPTED, RunStopped, UserError
from openrlhf_prefix.verbs import VERBS

# Of the pinned stack, about itself: nothing that a user of it could mend.
warnings.filterwarnings("ignore", message="Tip: In future versions of Ray", category=FutureWarning)
warnings.filterwarnings("ignore", message="The pynvml package is deprecated", category=FutureWarning)
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # vLLM's note that it binds memory to the only NUMA node

HELP = ("-h", "--help")


def end_quietly() -> None:
    """Nothing is printed after Python's own exit handlers, of which this one, registered first, is the last: triton's
    bindings list there what they did not free ("nanobind: leaked 514 functions!"), forty lines below the result."""
    atexit.register(lambda: os.dup2(os.open(os.devnull, os.O_WRONLY), 2))


def usage() -> str:
    width = max(map(len, VERBS))
    lines = [f"  {name:<{width}}  {verb.summary}" for name, verb in VERBS.items()]
    return "\n".join([f"usage: {PROGRAM} VERB ...", "", *lines, "", f"{PROGRAM} VERB --help, or {PROGRAM} --version"])


def version() -> str:
    """The package, its git revision where it is a checkout, and what is installed of the pinned stack."""
    root = Path(openrlhf_prefix.__file__).parents[1]
    revision = ""
    if (root / ".git").exists():  # not any repository that an environment happens to lie in
        command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
        try:
            revision = f" ({subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()})"
        except (OSError, subprocess.CalledProcessError) as error:
            revision = f" (git does not tell its revision: {error})"
    lines = [f"openrlhf_prefix {openrlhf_prefix.__version__}{revision}", f"python {platform.python_version()}"]
    return "\n".join([*lines, *map(str, pins.installed())])


def show(text: str) -> None:
    """Prints a long text to a reader who may go away (`| head`)."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains at its end


def run(name: str, argv: Sequence[str]) -> Any:
    """One verb, or its help; returns what its main() does. Raises UserError for what is not one."""
    if name not in VERBS:
        raise UserError(f"unknown verb {name!r}: choose one of {', '.join(VERBS)}")
    verb = VERBS[name]
    asked = next((position for position, word in enumerate(argv) if word in HELP), None)
    if verb.flags and (not argv or asked is not None):
        from openrlhf_prefix.settings.help import help_text

        following = [] if asked is None else argv[asked + 1 : asked + 2]
        topic = next((word for word in following if not word.startswith("-")), None)
        show(help_text(verb.load().parser(), topic))
        return None
    return verb.load().main(argv)


def main(argv: Sequence[str] | None = None) -> None:
    if argv is None:
        end_quietly()
        argv = sys.argv[1:]
    argv = list(argv)
    try:
        if not argv or argv[0] in HELP:
            print(usage())
        elif argv[0] == "--version":
            print(version())
        else:
            run(argv[0], argv[1:])
    except UserError as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        sys.exit(2)
    except RunStopped as stopped:
        # Ray wraps what was raised in an actor, and puts its traceback into the message.
        reason = getattr(stopped, "cause", stopped)
        print(f"{PROGRAM}: stopped: {reason.args[0]}", file=sys.stderr)
        sys.exit(stopped.code)
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))  # while Python and Ray clean up
        print(f"{PROGRAM}: interrupted", file=sys.stderr, flush=True)
        sys.exit(INTERRUPTED)


class Insistent:
    """Python's own handler of Ctrl-C, with a memory: raised inside a callback or a destructor, as importing and Ray's
    start have them, the exception is printed there and lost."""

    pressed = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.pressed = True
        raise KeyboardInterrupt


def script() -> None:
    """The command: main(), and after a Ctrl-C no clean-up of Python's, in which Ray's threads may crash."""
    signal.signal(signal.SIGINT, Insistent())
    try:
        main()
    except SystemExit as end:
        if end.code != INTERRUPTED:
            raise
        sys.stdout.flush()
        os._exit(INTERRUPTED)


if __name__ == "__main__":
    script()
