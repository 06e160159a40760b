"""A verb in a process of its own, seen from the process that asked for it.

Why not here: a run changes its process for good. It replaces classes and functions of OpenRLHF, DeepSpeed and torch,
sets variables, takes Ctrl-C and SIGTERM, and ends at once on a second Ctrl-C; vLLM gives a GPU back only when its
process ends; and Ray is started once a process, while a notebook may hold a Ray of its own. In a child every run
begins alike, any thread may ask for it, and nothing of it is left behind.

    out       what it prints is printed here, as it comes
    back      an answer in a file: a value, or the exception that the command line would have said in a line
    Ctrl-C    goes on to the child, which saves the last finished step; once more ends it at once
    the end   of this process, a kill too, is a SIGTERM for the child (child.py): a run saves first
"""

import codecs
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from openrlhf_prefix import errors

CHILD = "openrlhf_prefix.api.child"
LOOK_SECONDS = 0.2  # between two looks whether it has ended: what it started may hold its output open
GRACE = 60.0  # seconds from a request to end, where nobody waits for the answer, to the end


def call(verb: str, words: Sequence[str]) -> Any:
    """Runs `openrlhf-prefix VERB WORDS`; returns what the verb's main() does, in JSON's types.

    Raises:
        UserError, RunStopped and its classes: with the sentence of the command line.
        KeyboardInterrupt: it ended by one.
    """
    with tempfile.TemporaryDirectory() as passing:
        answer = Path(passing) / "answer.json"
        path = os.pathsep.join(filter(None, sys.path))  # it imports what we import
        process = subprocess.Popen(
            [sys.executable, "-m", CHILD, str(answer), verb, *words],
            stdin=subprocess.PIPE,  # its end says that this process has ended
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"},
            start_new_session=True,  # a Ctrl-C at a terminal reaches it once, through follow()
        )
        try:
            follow(process)
        finally:
            _end(process)
        said = json.loads(answer.read_text(encoding="utf-8")) if answer.exists() else {}
    if "value" in said:
        return said["value"]
    _raise(said, f"{verb} ended with exit code {process.returncode} and no answer; what it printed says why")


def follow(process: subprocess.Popen) -> None:
    """Prints what the process prints until it ends; every KeyboardInterrupt goes on to it."""
    assert process.stdout
    output, decode = process.stdout.fileno(), codecs.getincrementaldecoder("utf-8")(errors="replace").decode
    while True:
        try:
            ready, _, _ = select.select([output], [], [], LOOK_SECONDS)
            if ready and (chunk := os.read(output, 1 << 16)):
                print(decode(chunk), end="", flush=True)
            elif process.poll() is not None:
                return
            elif ready:  # it has closed its output, and goes on
                process.wait()
        except KeyboardInterrupt:
            process.send_signal(signal.SIGINT)


def _end(process: subprocess.Popen) -> None:
    """After an exception here, such as an output that nobody reads any more."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    for pipe in (process.stdin, process.stdout):
        assert pipe
        pipe.close()


def _raise(said: dict[str, str], otherwise: str) -> NoReturn:
    if said.get("kind") == KeyboardInterrupt.__name__:
        raise KeyboardInterrupt
    kind = getattr(errors, said.get("kind", ""), errors.RunStopped)
    raise kind(said.get("says", otherwise))
