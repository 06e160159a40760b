"""The child of process.py: one verb, as the command line runs it, but for how its end is told.

python -m openrlhf_prefix.api.child ANSWER VERB ...     writes {"value": ...}, or {"kind": class, "says": sentence}
"""

import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from openrlhf_prefix import cli
from openrlhf_prefix.errors import INTERRUPTED, RunInterrupted, RunStopped, UserError


def main() -> None:
    cli.end_quietly()
    answer, verb, *words = sys.argv[1:]
    signal.signal(signal.SIGINT, cli.Insistent())
    threading.Thread(target=watch, daemon=True).start()
    said: dict[str, Any]
    try:
        said = {"value": cli.run(verb, words)}
    except (UserError, RunStopped) as error:
        reason = getattr(error, "cause", error)  # Ray wraps what was raised in an actor
        said = {"kind": type(reason).__name__, "says": str(reason.args[0])}
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))
        said = {"kind": KeyboardInterrupt.__name__}
    Path(answer).write_text(json.dumps(said), encoding="utf-8")
    if said.get("kind") in (KeyboardInterrupt.__name__, RunInterrupted.__name__):
        sys.stdout.flush()
        os._exit(INTERRUPTED)  # no clean-up of Python's, in which Ray's threads may crash


def watch() -> None:
    """Waits for the end of whoever started this process: a run is to save and end then, too."""
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
