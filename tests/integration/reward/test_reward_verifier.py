"""The verifier with its real worker processes: verdicts of math-verify, and what hostile answers may cost."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from openrlhf_prefix.reward import MathVerifier, Score
from openrlhf_prefix.reward.pool import WorkerLost, WorkerPool
from openrlhf_prefix.reward.worker import reply_to

EQUAL, DIFFERENT = Score(1.0, "equal"), Score(0.0, "different")
# sums and products of too many terms for us, which math-verify tries to work out
NEVER_ENDS = [r"\sum_{k=1}^{10^9} k^k", r"\prod_{k=1}^{10^9} k^k", r"\sum_{k=1}^{10^9} k^{k+1}"]


def box(answer: str) -> str:
    return f"so it is \\boxed{{{answer}}}."


def surd(k: int) -> tuple[str, str]:
    """An answer that only a worker can judge, and its gold: k sqrt(2) = sqrt(2 k^2)."""
    return box(rf"{k}\sqrt{{2}}"), rf"\sqrt{{{2 * k * k}}}"


def wait_until_busy(verifier: MathVerifier) -> int:
    """Process id of the worker that burns a processor, once one does."""
    deadline = time.monotonic() + 20
    seen: dict[int, float] = {}
    while time.monotonic() < deadline:
        for pid in verifier._pool.pids():
            with open(f"/proc/{pid}/stat") as stat:
                ticks = int(stat.read().rsplit(")", 1)[1].split()[11])  # utime
            if ticks - seen.setdefault(pid, ticks) > 30:  # 0.3 s of processor since first seen
                return pid
        time.sleep(0.02)
    raise AssertionError("no worker got busy")


@pytest.fixture(scope="module")
def verifier() -> Iterator[MathVerifier]:
    with MathVerifier(workers=2, timeout=10.0) as shared:
        assert shared.score_one(*surd(2)) == EQUAL
        time.sleep(2.0)  # the other two import
        yield shared


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        ("0.5", "1/2"),
        (r"\frac{1}{2}", "0.5"),
        (r"\frac12", "1/2"),
        (r"2\sqrt{2}", r"\sqrt{8}"),
        ("(x-1)(x+1)", "x^2-1"),
        (r"\{2, 1\}", r"\{1, 2\}"),
        ("1,000", "1000"),
        ("0.333333", "1/3"),  # equal when rounded to six digits: the worked example of math-verify's own source
        (r"\frac{1}{2}", "$0.5$"),
        (r"\frac{1}{2}", r"\boxed{0.5}"),  # the gold may come in dollars or in a box
    ],
)
def test_answers_that_are_equal_as_mathematics_score_one(verifier: MathVerifier, answer: str, gold: str) -> None:
    assert verifier.score_one(box(answer), gold) == EQUAL


@pytest.mark.parametrize(("answer", "gold"), [("0.33", "1/3"), ("43", "42"), ("(2,1)", "(1,2)"), ("x^2+1", "x^2-1")])
def test_answers_that_differ_score_zero(verifier: MathVerifier, answer: str, gold: str) -> None:
    assert verifier.score_one(box(answer), gold) == DIFFERENT


def test_the_gold_goes_to_math_verify_first(verifier: MathVerifier) -> None:
    """verify is not symmetric: it takes the right side of an answered equation, not of a gold one."""
    assert verifier.score_one(box("x = 5"), "5") == EQUAL
    assert verifier.score_one(box("5"), "x + 1 = 5") == DIFFERENT


def test_inequalities_are_equal_to_the_set_of_their_solutions(verifier: MathVerifier) -> None:
    assert verifier.score_one(box("(0,1)"), "0<x<1") == EQUAL
    assert verifier.score_one(box("0<x<1"), "(0,1)") == EQUAL
    assert verifier.score_one(box("x > 3"), "2x > 6") == EQUAL
    assert verifier.score_one(box("y = 5"), "x = 5") == DIFFERENT  # the same set {5}, of another unknown


def test_a_variable_i_is_tried_as_the_imaginary_unit_too(verifier: MathVerifier) -> None:
    assert verifier.score_one(box("2i"), "(1+i)^2") == EQUAL
    assert verifier.score_one(box("-2i"), "(1+i)^2") == DIFFERENT


def test_plain_numbers_and_words_never_start_a_worker() -> None:
    with MathVerifier() as idle:
        assert idle.score_one(box("0.5"), "1/2") == EQUAL
        assert idle.score_one(box("41"), "42") == DIFFERENT
        assert idle.score_one(box(r"\text{Yes}"), "yes") == EQUAL
        assert idle._pool.pids() == []


def test_two_units_are_converted_and_one_unit_is_dropped(verifier: MathVerifier) -> None:
    """3 h = 180 min; a length is no area; 2 sqrt(2) m = sqrt(8) * 100 cm; apples say nothing."""
    assert verifier.score_one(box(r"180\text{ minutes}"), r"3\text{ hours}") == EQUAL
    assert verifier.score_one(box(r"3\text{ minutes}"), r"3\text{ hours}") == DIFFERENT
    assert verifier.score_one(box(r"3\text{ cm}"), r"3\text{ cm}^2") == DIFFERENT
    assert verifier.score_one(box(r"200\sqrt{2}\text{ cm}"), r"\sqrt{8}\text{ m}") == EQUAL
    assert verifier.score_one(box(r"8\text{ apples}"), "8") == EQUAL


def test_the_fallback_reads_a_response_without_a_box() -> None:
    with MathVerifier() as boxed, MathVerifier(fallback="last_number") as number:
        assert boxed.score_one("so it is 42.", "42") == Score(0.0, "no_answer")
        assert number.score_one("so it is 42.", "42") == EQUAL
        assert number.score_one(r"it is \boxed{41}, not 42.", "42") == DIFFERENT
    with pytest.raises(ValueError, match="none, last_number, last_line"):
        MathVerifier(fallback="guess")


@pytest.mark.parametrize("wrong", [None, 42, 4.2, b"42", ["42"]])
def test_anything_but_a_string_is_an_error_of_the_caller(wrong: object) -> None:
    with MathVerifier() as idle:
        with pytest.raises(TypeError, match="response is a .*not a string"):
            idle.score_one(wrong, "42")
        with pytest.raises(TypeError, match="answer is a .*not a string"):
            idle.score_one(box("42"), wrong)


def test_a_number_is_not_picked_out_of_a_box_that_does_not_parse(verifier: MathVerifier) -> None:
    assert verifier.score_one(box(r"\frac\frac 42"), "42") == Score(0.0, "unparseable")
    assert verifier.score_one(box("neither 41 nor 42"), "42").value == 0.0


def test_a_response_without_an_answer_never_starts_a_worker() -> None:
    with MathVerifier() as idle:
        reasons = [idle.score_one(text, "42").reason for text in ("42", r"\boxed{42", r"\boxed{ }", "")]
        assert reasons == ["no_answer"] * 4
        assert idle._pool.pids() == []


def test_an_answer_past_the_limits_is_unparseable_at_once_and_never_starts_a_worker() -> None:
    with MathVerifier() as idle:
        start = time.monotonic()
        bombs = ["{" * 20_000 + "}" * 20_000, "{" * 100 + "}" * 100, "7" * 301, "1+" * 600 + "1"]
        assert [idle.score_one(box(bomb), "42").reason for bomb in bombs] == ["unparseable"] * 4
        assert idle._pool.pids() == []
        assert time.monotonic() - start < 2


def test_a_verdict_is_remembered_and_a_timeout_is_not() -> None:
    with MathVerifier(workers=1, timeout=0.5) as quick:
        assert [quick.score_one(*surd(3)) for _ in range(3)] == [EQUAL] * 3
        assert quick._cached_judge.cache_info().hits == 2
        assert [quick.score_one(box(NEVER_ENDS[1]), "3/4").reason for _ in range(2)] == ["timeout"] * 2
        assert quick._cached_judge.cache_info().currsize == 1


def test_a_timeout_costs_its_own_sample_and_the_next_is_served_at_once() -> None:
    """One worker, limit 1 s. A pool without a warm spare pays another start (about 1 s) before the second verdict."""
    with MathVerifier(workers=1, timeout=1.0) as quick:
        quick.score_one(*surd(2))
        time.sleep(3.0)  # the spare has imported
        victim = quick._pool._idle[-1].process
        start = time.monotonic()
        assert quick.score_one(box(NEVER_ENDS[0]), "42") == Score(0.0, "timeout")
        late = time.monotonic()
        assert quick.score_one(*surd(4)) == EQUAL
        served = time.monotonic()
        assert 0.9 < late - start < 4.0
        assert served - late < 0.8
        assert victim.returncode == -signal.SIGKILL  # killed and reaped, not left to burn a processor


def test_hostile_answers_time_out_and_leave_their_neighbours_alone() -> None:
    """Three bombs among seven good answers, two workers: each bomb is lost, each neighbour keeps its verdict."""
    good = [*map(surd, range(2, 7)), (surd(7)[0], "x"), (surd(8)[0], "y")]
    answers = [*good[:2], *[(box(bomb), "42") for bomb in NEVER_ENDS], *good[2:]]
    with MathVerifier(workers=2, timeout=1.5) as quick:
        scores = quick.score([answer for answer, _ in answers], [gold for _, gold in answers])
        assert len(quick._pool.pids()) == 3
    assert scores == [EQUAL] * 2 + [Score(0.0, "timeout")] * 3 + [EQUAL] * 3 + [DIFFERENT] * 2


def test_the_clock_of_a_request_does_not_run_while_it_queues_or_while_its_worker_imports() -> None:
    """Limit 0.8 s, one worker: its start takes longer than that, and the last of the four waits for three bombs."""
    with MathVerifier(workers=1, timeout=0.8) as quick:
        golds = ["42", "42", "42", surd(2)[1]]
        scores = quick.score([*map(box, NEVER_ENDS), surd(2)[0]], golds)
    assert [score.reason for score in scores] == ["timeout"] * 3 + ["equal"]


def test_a_memory_bomb_is_stopped_at_the_limit_and_named() -> None:
    """(x+y+z+w)^200 has 1.4 million terms. At 96 MB (64 of them for the imports) it hits the limit within seconds."""
    with MathVerifier(workers=1, timeout=15.0, memory_mb=96) as small:
        assert small.score_one(*surd(2)) == EQUAL
        pid = small._pool._idle[-1].process.pid
        with open(f"/proc/{pid}/limits") as limits:
            assert re.search(rf"Max address space +{96 * 2**20} ", limits.read())
        assert small.score_one(box(r"\int (x+y+z+w)^{200} dx"), "42") == Score(0.0, "memory")
        assert pid not in small._pool.pids()  # it swallowed the error and kept the heap: it is replaced
        assert small.score_one(*surd(3)) == EQUAL


def test_a_worker_says_memory_for_a_memory_error_and_unparseable_for_any_other() -> None:
    def judge(gold: str, answer: str) -> str:
        raise {"memory": MemoryError, "other": RecursionError}[answer]

    assert reply_to("1", "memory", judge, 2**30) == {"value": 0.0, "reason": "memory", "retire": True}
    assert reply_to("1", "other", judge, 2**30) == {"value": 0.0, "reason": "unparseable", "retire": False}


def test_a_worker_killed_in_the_middle_is_a_crash_and_is_replaced(verifier: MathVerifier) -> None:
    with ThreadPoolExecutor(1) as thread:
        future = thread.submit(verifier.score_one, box(NEVER_ENDS[1]), "42")
        pid = wait_until_busy(verifier)
        os.kill(pid, signal.SIGKILL)
        assert future.result(timeout=5) == Score(0.0, "crash")
    assert verifier.score_one(*surd(9)) == EQUAL
    assert pid not in verifier._pool.pids() and len(verifier._pool.pids()) == 3


def test_a_worker_killed_while_idle_costs_no_sample(verifier: MathVerifier) -> None:
    warm = verifier._pool._idle[-1].process
    os.kill(warm.pid, signal.SIGKILL)
    while not os.path.exists(f"/proc/{warm.pid}/stat") or " Z " not in open(f"/proc/{warm.pid}/stat").read():
        time.sleep(0.01)
    assert verifier.score_one(*surd(10)) == EQUAL


def test_eight_threads_at_once_each_get_the_verdict_of_their_own_request(verifier: MathVerifier) -> None:
    """Thread t asks for (16 t + k) sqrt(2) against sqrt(2 (16 t + k)^2), and the same plus one, in turns."""
    start = threading.Barrier(8)

    def ask(t: int) -> list[str]:
        start.wait()
        pairs = [surd(16 * t + k) for k in range(1, 13)]
        return [verifier.score_one(pair[0], f"{pair[1]} + {(k + t) % 2}").reason for k, pair in enumerate(pairs, 1)]

    with ThreadPoolExecutor(8) as threads:
        got = list(threads.map(ask, range(8)))
    assert got == [["different" if (k + t) % 2 else "equal" for k in range(1, 13)] for t in range(8)]


def test_score_keeps_order_and_refuses_lists_of_different_length(verifier: MathVerifier) -> None:
    responses = [box(f"{k}/32") for k in range(1, 21)]
    golds = [str(k / 32 + (k % 3 == 0)) for k in range(1, 21)]
    assert [s.value for s in verifier.score(responses, golds)] == [float(k % 3 != 0) for k in range(1, 21)]
    with pytest.raises(ValueError, match="20 responses but 19 answers"):
        verifier.score(responses, golds[:-1])


def test_counts_tell_each_reason_since_the_last_call(verifier: MathVerifier) -> None:
    verifier.counts()
    verifier.score([box("0.5"), box("1/2"), "none", box("43"), box("7" * 400)], ["1/2", "1/2", "1/2", "42", "42"])
    assert verifier.counts() == {"equal": 2, "no_answer": 1, "different": 1, "unparseable": 1}
    assert verifier.counts() == {}


def test_a_worker_that_cannot_start_raises_with_its_stderr_and_the_remedy() -> None:
    """24 MB do not hold sympy: the import fails, and that is an error of the machine, not a score of zero."""
    with MathVerifier(memory_mb=24) as broken, pytest.raises(RuntimeError) as caught:
        broken.score([surd(2)[0]] * 3, [surd(2)[1]] * 3)
    message = str(caught.value)
    assert "did not start" in message and "MemoryError" in message and "raise memory_mb" in message


def test_a_pool_survives_workers_that_print_exit_or_talk_nonsense() -> None:
    """The pool knows no maths: this worker obeys its request."""
    program = (
        "import sys, json, os\nprint('ready', flush=True)\n"
        "for line in sys.stdin:\n"
        "    do = json.loads(line)['do']\n"
        "    if do == 'die': os._exit(3)\n"
        "    reply = json.dumps({'pid': os.getpid(), 'retire': do == 'retire'})\n"
        "    print('no json' if do == 'babble' else reply, flush=True)"
    )
    pool = WorkerPool([sys.executable, "-c", program], size=1, timeout=10)
    try:
        first = pool.call({"do": "answer"})["pid"]
        assert pool.call({"do": "answer"})["pid"] == first  # a healthy worker is kept
        assert pool.call({"do": "retire"})["pid"] == first and first not in pool.pids()
        for order in ("die", "babble"):
            with pytest.raises(WorkerLost, match="crash"):
                pool.call({"do": order})
        assert pool.call({"do": "answer"})["pid"] != first
    finally:
        pool.close()
    with pytest.raises(RuntimeError, match="closed"):
        pool.call({"do": "answer"})


def test_close_ends_every_worker_and_the_request_in_flight() -> None:
    closing = MathVerifier(workers=1, timeout=60.0)
    assert closing.score_one(*surd(2)) == EQUAL
    with ThreadPoolExecutor(1) as thread:
        future = thread.submit(closing.score_one, box(NEVER_ENDS[1]), "42")
        time.sleep(0.5)
        assert not future.done()
        pids = closing._pool.pids()
        closing.close()
        assert future.result(timeout=10) == Score(0.0, "crash")
    assert len(pids) == 2 and not any(os.path.exists(f"/proc/{pid}") for pid in pids)


def test_a_worker_whose_parent_is_gone_does_not_burn_a_processor_for_ever() -> None:
    """Nobody reads the clock here, as after a kill -9 of the parent: the worker's own alarm ends it after 1 s."""
    command = [sys.executable, "-m", "openrlhf_prefix.reward.worker", "--memory-mb", "2048", "--orphan-seconds", "1"]
    request = json.dumps({"gold": "42", "answer": NEVER_ENDS[1]}).encode() + b"\n"
    assert subprocess.run(command, input=request, capture_output=True, timeout=30).returncode == -signal.SIGALRM


def test_a_forked_child_scores_with_workers_of_its_own() -> None:
    """Two processes on one pipe would read each other's verdicts."""
    program = (
        "import os, sys\nfrom openrlhf_prefix.reward import MathVerifier\n"
        "v = MathVerifier(workers=1)\nassert v.score_one(r'\\boxed{2x}', 'x+x').value == 1\nmine = v._pool.pids()\n"
        "child = os.fork()\n"
        "ok = v.score_one(r'\\boxed{4x}', '3x+x').value == 1\n"
        "ok = ok and bool(set(mine) & set(v._pool.pids())) == bool(child)\n"
        "v.close()\n"
        "os._exit(not ok) if child == 0 else sys.exit(not ok or os.waitpid(child, 0)[1] != 0)"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == 0


def test_the_reward_package_pulls_in_neither_the_trainer_nor_math_verify() -> None:
    program = (
        "import sys, openrlhf_prefix.reward\n"
        "heavy = {'ray', 'vllm', 'deepspeed', 'openrlhf', 'torch', 'math_verify', 'sympy'}\n"
        "sys.exit(repr(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == 0
