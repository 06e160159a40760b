r"""The process in which math-verify runs: one JSON request per line in, one JSON reply per line out.

    {"gold": "1/2", "answer": "0.5"}  ->  {"value": 1.0, "reason": "equal", "retire": false}

Untrusted LaTeX can make sympy loop for ever, in C code that no signal handler or thread interrupts, or eat all memory.
So it gets a process with bounded memory, and the parent, which owns the clock, kills it when it is late. math-verify's
own time-outs (SIGALRM) stay off. "retire" asks the parent for a fresh process.
"""

import argparse
import json
import logging
import os
import re
import resource
import signal
import sys
from collections.abc import Callable
from functools import lru_cache
from typing import Any, BinaryIO

Judge = Callable[[str, str], str]  # (gold, answer) -> reason

CALCULUS = re.compile(r"\\(?:i*int|oint|lim|sum|prod|partial|frac\s*\{\s*(?:\\mathrm\s*\{)?d)(?![A-Za-z])")
DOTS = re.compile(r"\\[lc]?dots|…|\.\.")
FULL = 0.9  # share of the memory limit from which a worker counts as full


def load_judge() -> Judge:
    """Import mpmath, sympy and math-verify (a second), and prove that they work before the first request."""
    from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify

    from openrlhf_prefix.reward.equality.exact import Undecided
    from openrlhf_prefix.reward.equality.numeric import NumericOracle
    from openrlhf_prefix.reward.equality.verdict import decide, has_words
    from openrlhf_prefix.reward.grammar.tokens import Unreadable

    config = (LatexExtractionConfig(boxed_match_priority=0), ExprExtractionConfig())
    oracle = NumericOracle()

    @lru_cache(maxsize=256)
    def parsed(latex: str) -> list[Any]:
        # "first_match": the box as a whole or nothing, never a number picked out of a box that does not parse.
        boxed = f"\\boxed{{{latex}}}"
        return parse(boxed, config, extraction_mode="first_match", parsing_timeout=None, raise_on_error=True)

    def by_math_verify(gold: str, answer: str) -> str:
        """For the calculus that our grammar does not know. Nothing else, for it drops what it does not understand."""
        if any(has_words(text) or DOTS.search(text) or not CALCULUS.search(gold + answer) for text in (gold, answer)):
            return "unparseable"
        sides = [[item for item in parsed(text) if not isinstance(item, str)] for text in (gold, answer)]
        if not all(sides):
            return "unparseable"
        equal = verify(*sides, float_rounding=15, numeric_precision=40, timeout_seconds=None, raise_on_error=True)
        return "equal" if equal else "different"

    def judge(gold: str, answer: str) -> str:
        try:
            return "equal" if decide(gold, answer, oracle) else "different"
        except (Unreadable, Undecided):
            return by_math_verify(gold, answer)

    # It fails with e.g. the antlr4 runtime of another package; and the first use loads much of sympy, which would
    # otherwise come off the time of the first request.
    if by_math_verify(r"\int_0^1 x dx", r"\frac{1}{2}") != "equal" or judge(r"\sqrt{8}", r"2\sqrt{2}") != "equal":
        raise RuntimeError("math-verify is installed but does not find that the integral of x from 0 to 1 is 1/2")
    return judge


def reply_to(gold: str, answer: str, judge: Judge, memory_mb: int) -> dict[str, object]:
    """One verdict.

    sympy and math-verify swallow most MemoryErrors and carry on with a wrong "different", so a worker that has been
    near its limit says "memory" too, and retires either way: its heap stays large.
    """
    try:
        reason = judge(gold, answer)
    except MemoryError:
        reason = "memory"
    except Exception:  # math-verify raises almost anything on untrusted text; the parent counts it by its reason
        reason = "unparseable"
    full = reason == "memory" or _peak_mb() > FULL * memory_mb
    if full and reason != "equal":
        reason = "memory"
    return {"value": float(reason == "equal"), "reason": reason, "retire": full}


def _peak_mb() -> float:
    """The most address space this process ever had; 0 where the system does not tell."""
    try:
        with open("/proc/self/status", encoding="ascii") as status:
            return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmPeak"))
    except (OSError, StopIteration):
        return 0.0


def _limit_memory(memory_mb: int) -> None:
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    limit = memory_mb * 2**20 if hard == resource.RLIM_INFINITY else min(memory_mb * 2**20, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def private_stdout() -> BinaryIO:
    """The pipe to the parent under a new descriptor; what libraries print to stdout goes to stderr instead."""
    channel = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return channel


def main() -> None:
    """Serve until stdin closes, which it does when the parent is gone."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--memory-mb", type=int, required=True, help="limit of the address space (RLIMIT_AS)")
    parser.add_argument("--orphan-seconds", type=int, default=600, help="a request of this length kills the worker")
    args = parser.parse_args()
    _limit_memory(args.memory_mb)
    channel = private_stdout()
    logging.disable()  # math-verify warns that its time-outs are off: they are, on purpose
    judge = load_judge()
    channel.write(b'{"ready": true}\n')
    channel.flush()
    for line in sys.stdin.buffer:
        request = json.loads(line)
        # Only for a worker that hangs after its parent was killed: SIGALRM without a handler ends the process.
        signal.alarm(args.orphan_seconds)
        reply = reply_to(request["gold"], request["answer"], judge, args.memory_mb)
        signal.alarm(0)
        channel.write(json.dumps(reply).encode() + b"\n")
        channel.flush()


if __name__ == "__main__":
    main()
