r"""How often the verifier is right, by kind, beside bare math-verify on the same pairs.

    python benchmarks/verifier_accuracy.py tests/corpora/*.jsonl

A file has one pair a line: {"category" or "kind", "gold", "answer" or "response", "equal"}; an "answer" is put into a
box. Bare math-verify is verify(parse(boxed gold), parse(response)) with its default settings. "paid" counts what was
taken for equal and is not. --wrong lists our own mistakes. Prints the table of docs/40-rewards.md.
"""

import argparse
import json
import logging
from collections import Counter
from pathlib import Path

from openrlhf_prefix.reward import MathVerifier

Row = tuple[str, str, str, bool]  # category, gold, response, equal


def read(path: Path) -> list[Row]:
    """The pairs of one file."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    return [
        (
            row.get("category") or row["kind"],
            row["gold"],
            row["response"] if "response" in row else rf"so \boxed{{{row['answer']}}}.",
            row["equal"],
        )
        for row in rows
    ]


def bare(rows: list[Row]) -> list[bool]:
    """Verdicts of math-verify alone."""
    from math_verify import parse, verify

    return [verify(parse(rf"\boxed{{{gold}}}"), parse(response)) for _, gold, response, _ in rows]


def ours(rows: list[Row]) -> list[bool]:
    """Verdicts of MathVerifier."""
    with MathVerifier(timeout=20.0) as verifier:
        scores = verifier.score([response for *_, response, _ in rows], [gold for _, gold, *_ in rows])
    return [score.value == 1.0 for score in scores]


def table(rows: list[Row], verdicts: dict[str, list[bool]]) -> list[str]:
    """Lines of markdown: a row a category, and all; for each judge how many are right, and how many wrongly paid."""
    total: Counter[str] = Counter()
    right: Counter[tuple[str, str]] = Counter()
    paid: Counter[tuple[str, str]] = Counter()
    for index, (category, *_, equal) in enumerate(rows):
        for name in (category, "all"):
            total[name] += 1
            for judge, found in verdicts.items():
                right[judge, name] += found[index] == equal
                paid[judge, name] += found[index] and not equal
    heads = " | ".join(f"{judge} | paid" for judge in verdicts)
    lines = [f"| kind | pairs | {heads} |", "| --- | --- |" + " --- | --- |" * len(verdicts)]
    for name in [*sorted(name for name in total if name != "all"), "all"]:
        cells = " | ".join(f"{right[judge, name]} | {paid[judge, name]}" for judge in verdicts)
        lines.append(f"| {name} | {total[name]} | {cells} |")
    return lines


def main() -> None:
    """Prints the table, and our mistakes on demand."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path, help="pairs, one JSON object a line")
    parser.add_argument("--wrong", action="store_true", help="list the pairs that we judge wrongly")
    args = parser.parse_args()
    logging.disable()
    rows = [row for path in args.files for row in read(path)]
    verdicts = {"ours": ours(rows), "bare": bare(rows)}
    print("\n".join(table(rows, verdicts)))
    if args.wrong:
        for (category, gold, response, equal), verdict in zip(rows, verdicts["ours"], strict=True):
            if verdict != equal:
                print(f"{category}: gold {gold!r}, {response!r}: {verdict}")


if __name__ == "__main__":
    main()
