"""The verifier over its corpora: what hostile answers may cost, and whether it judges as the labels do."""

import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from openrlhf_prefix.reward import MathVerifier, Score, pool
from openrlhf_prefix.reward.math import REASONS

CORPORA = Path(__file__).resolve().parents[2] / "corpora"
sys.path.insert(0, str(CORPORA))
from adversarial import batches, box  # noqa: E402

BATCHES = batches()


def corpus(name: str) -> list[dict]:
    """Pairs with labels."""
    lines = (CORPORA / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def response(row: dict) -> str:
    """A response as it stands, or an answer in a box."""
    return row.get("response") or box(row["answer"])


LABELLED = corpus("labelled")
TIMEOUT, MEMORY_MB = 1.5, 1024


@pytest.fixture(scope="module")
def verifier() -> Iterator[MathVerifier]:
    with MathVerifier(workers=2, timeout=TIMEOUT, memory_mb=MEMORY_MB) as shared:
        yield shared


@pytest.fixture
def seconds(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What each request took from its start in a worker to its answer or end; queueing does not count."""
    taken: list[float] = []
    ask = pool._Worker.ask

    def timed(worker: pool._Worker, line: bytes, limit: float) -> dict[str, object]:
        start = time.monotonic()
        try:
            return ask(worker, line, limit)
        finally:
            taken.append(time.monotonic() - start)

    monkeypatch.setattr(pool._Worker, "ask", timed)
    return taken


def peak_mb(pid: int) -> float:
    """Most address space that a process ever had."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmPeak"))


def test_the_adversarial_corpus_has_more_than_300_answers() -> None:
    assert sum(len(batch) for batch in BATCHES.values()) >= 300
    assert all(BATCHES.values())
    assert max(len(response) for batch in BATCHES.values() for response in batch) > 1_000_000


@pytest.mark.parametrize("name", list(BATCHES))
def test_hostile_answers_cost_their_own_time_at_most(verifier: MathVerifier, seconds: list[float], name: str) -> None:
    """No point, a known reason, a bounded clock and heap; and the next good answer is served as if nothing was."""
    responses = BATCHES[name]
    scores = verifier.score(responses, ["42"] * len(responses))
    assert [score for score in scores if score.value or score.reason not in REASONS] == []
    assert not any(score.reason == "crash" for score in scores)
    assert max(seconds, default=0.0) < TIMEOUT + 0.5
    assert max((peak_mb(pid) for pid in verifier._pool.pids()), default=0.0) <= MEMORY_MB
    k = 2 + list(BATCHES).index(name)  # a gold of its own: no verdict is remembered
    assert verifier.score_one(box(f"{k}x"), f"{k - 1}x + x") == Score(1.0, "equal")


@pytest.mark.parametrize("gold", [batch[0] for batch in BATCHES.values()] + ["", "{" * 100_000, "x" * 1_000_000])
def test_a_hostile_gold_is_no_reward_and_no_crash(verifier: MathVerifier, gold: str) -> None:
    assert verifier.score_one(box("41"), gold).value == 0.0


def test_the_labelled_corpus_has_20_rows_of_both_labels_in_every_category() -> None:
    rows = Counter(row["category"] for row in LABELLED)
    labels = Counter((row["category"], row["equal"]) for row in LABELLED)
    assert len(LABELLED) >= 300 and len({(row["gold"], row["answer"]) for row in LABELLED}) == len(LABELLED)
    assert len(rows) == 14 and min(rows.values()) >= 20
    assert all(labels[category, label] >= 5 for category in rows for label in (True, False))


@pytest.mark.parametrize("name", ["labelled", "disputes", "neighbours", "kinds"])
def test_every_pair_is_judged_as_labelled(name: str) -> None:
    """How bare math-verify does on them: benchmarks/verifier_accuracy.py."""
    rows = corpus(name)
    with MathVerifier(workers=2, timeout=20.0) as patient:
        scores = patient.score([response(row) for row in rows], [row["gold"] for row in rows])
    assert [row for row, score in zip(rows, scores, strict=True) if (score.value == 1.0) != row["equal"]] == []


def test_the_corpora_hold_both_labels_and_no_pair_twice() -> None:
    for name in ("disputes", "neighbours", "kinds"):
        labels = Counter(row["equal"] for row in corpus(name))
        assert min(labels[True], labels[False]) >= 80
        assert len({(row["gold"], response(row)) for row in corpus(name)}) == len(corpus(name))


# each says something else than the gold that it is made of
CONTRADICTIONS = [
    *(
        r"{} \text{{ is wrong}}",
        r"{} \text{{ or }} 97",
        "{}, 97",
        r"{}\ldots",
        r"{} \ne 97",
        r"\text{{not }} {}",
        r"\ne {}",
    ),
    *(
        "< {}",
        "97 = {}",
        r"{} \text{{ PM}}",
        r"{} \text{{ left}}",
        r"{} \text{{ if }} x>97",
        r"{} \to 97",
        r"{} \pm 97",
    ),
    *(
        r"{} \text{{ (probably)}}",
        r"\text{{at least }}{}",
        r"{} \text{{ except }} 97",
        r"\text{{maybe }}{}",
        r"\lnot {}",
    ),
]


def test_nothing_that_contradicts_a_gold_is_paid() -> None:
    golds = [row["gold"] for row in LABELLED if row["category"] not in ("inequalities", "intervals")][::4]
    pairs = [(form.format(gold), gold) for gold in golds for form in CONTRADICTIONS]
    assert len(pairs) > 1000
    with MathVerifier(workers=2, timeout=20.0) as patient:
        scores = patient.score([box(answer) for answer, _ in pairs], [gold for _, gold in pairs])
    assert [pair for pair, score in zip(pairs, scores, strict=True) if score.value] == []
