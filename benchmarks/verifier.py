r"""Answers per second of the verifier, beside bare math-verify in the same run.

    python benchmarks/verifier.py --pairs 300

Every pair is new, so that no verdict is remembered, and half of each kind are wrong. Bare math-verify is
verify(parse(gold), parse(answer)) in this process with its own time-outs, as its README uses it. It runs before and
after ours, and the better of the two counts. Prints the table of docs/40-rewards.md.
"""

import argparse
import logging
import time
from collections.abc import Callable

from openrlhf_prefix.reward import MathVerifier

Pairs = list[tuple[str, str]]  # (gold, answer)


def integers(count: int) -> Pairs:
    """1000 + k against itself in another form (1,003 or 1003.0) or the next number."""
    return [
        (str(1000 + k), (f"1,{k:03}" if k < 999 else f"{1000 + k}.0") if k % 2 else str(1001 + k))
        for k in range(count)
    ]


def fractions(count: int) -> Pairs:
    """(2 k + 1) / 8 against its decimal, right or off by one eighth."""
    return [(rf"\frac{{{2 * k + 1}}}{{8}}", str((2 * k + 1 + k % 2) / 8)) for k in range(count)]


def percentages(count: int) -> Pairs:
    """k + 1/2 % against its hundredth, right or off by 1/2 %."""
    return [(rf"{k}.5\%", str((10 * k + 5 * (1 + k % 2)) / 1000)) for k in range(1, count + 1)]


def surds(count: int) -> Pairs:
    """sqrt(2 k^2) against k sqrt(2), or (k + 1) sqrt(2)."""
    return [(rf"\sqrt{{{2 * k * k}}}", rf"{k + k % 2}\sqrt{{2}}") for k in range(2, count + 2)]


def polynomials(count: int) -> Pairs:
    """(x + k)(x - 1) against the product, or the product plus one."""
    return [(f"(x+{k})(x-1)", f"x^2+{k - 1}x-{k + k % 2}") for k in range(2, count + 2)]


def sets(count: int) -> Pairs:
    """{k, k + 1} against {k + 1, k}, or {k + 2, k}."""
    return [(rf"\{{{k}, {k + 1}\}}", rf"\{{{k + 1 + k % 2}, {k}\}}") for k in range(count)]


PLAIN = {"integers": integers, "fractions and decimals": fractions, "percentages": percentages}
SYMBOLIC = {"surds": surds, "polynomials": polynomials, "sets": sets}


def bare(pairs: Pairs) -> float:
    """Answers per second of math-verify alone."""
    from math_verify import parse, verify

    start = time.perf_counter()
    for gold, answer in pairs:
        verify(parse(rf"\boxed{{{gold}}}"), parse(rf"\boxed{{{answer}}}"))
    return len(pairs) / (time.perf_counter() - start)


def ours(pairs: Pairs, verifier: MathVerifier) -> float:
    """Answers per second of MathVerifier.score, with all its gates, threads and workers."""
    start = time.perf_counter()
    scores = verifier.score([rf"so \boxed{{{answer}}}" for _, answer in pairs], [gold for gold, _ in pairs])
    seconds = time.perf_counter() - start
    reasons = {score.reason for score in scores}
    if reasons != {"equal", "different"}:
        raise RuntimeError(f"verdicts {sorted(reasons)}: a rate of failures says nothing; raise --timeout")
    return len(pairs) / seconds


def measure(kinds: dict[str, Callable[[int], Pairs]], count: int, verifier: MathVerifier) -> None:
    """One line of the table per kind."""
    for kind, make in kinds.items():
        pairs = make(count)
        before = bare(pairs)
        rate = ours(pairs, verifier)  # once: the cache would answer a second time
        reference = max(before, bare(pairs))
        print(f"| {kind} | {rate:,.0f} | {reference:,.0f} | {rate / reference:.1f} |", flush=True)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=300, help="pairs of each kind")
    parser.add_argument("--workers", type=int, default=2, help="worker processes")
    parser.add_argument("--timeout", type=float, default=10.0, help="seconds that one answer may take")
    args = parser.parse_args()
    logging.disable()
    with MathVerifier(workers=args.workers, timeout=args.timeout) as verifier:
        warm_up = surds(2000)[-8:]
        bare(warm_up)
        ours(warm_up, verifier)
        time.sleep(5)  # the spare worker imports
        print("| answers | ours, 1/s | bare math-verify, 1/s | ratio |\n| --- | --- | --- | --- |")
        measure(PLAIN, args.pairs, verifier)
        measure(SYMBOLIC, args.pairs, verifier)


if __name__ == "__main__":
    main()
