"""The reward of one row, wherever it comes from, within a deadline; a failure is a result and not an exception.

    math-verify      the built-in verifier              (--reward.remote_url left out)
    FILE.py          reward_func of the user's file, in processes that can be killed
    http://...       reward servers, in turn
    nothing          a reward model scores the whole batch later

What a failed reward means is decided in one place for all of them (--reward.on_error, experience_maker.py).
"""

import asyncio
import itertools
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Protocol

import aiohttp

from openrlhf_prefix.reward import MathVerifier
from openrlhf_prefix.reward.pool import WorkerLost, WorkerPool
from openrlhf_prefix.reward.user_reward import RewardShape, read_reward
from openrlhf_prefix.settings.flags import MATH_VERIFY
from openrlhf_prefix.settings.secrets import without_secrets

FAILURES = ("timeout", "crash", "memory", "error", "shape")  # reasons for which a row has no reward
START_SECONDS = 600.0  # a user's file may load a model
TRIES = 3  # posts to reward servers within one deadline
PAUSE = 0.5  # seconds between them


@dataclass(frozen=True)
class Sample:
    """One row as text, of which a reward is given what it reads; `query` is prompt and response together, special
    tokens included."""

    query: str = ""
    prompt: str = ""
    label: str = ""
    response: str = ""


@dataclass(frozen=True)
class Outcome:
    reward: float | None  # None: a reward model comes later
    score: float | None
    extra_logs: dict[str, float] = field(default_factory=dict)
    verdict: str | None = None  # of the built-in verifier, one of reward.math.REASONS
    failure: str | None = None  # one of FAILURES
    text: str = ""  # what went wrong


ALL_TEXT = ("query", "prompt", "response")


class Reward(Protocol):
    """The reward of one row."""

    reads: tuple[str, ...]  # fields of Sample that are text of the row: others are not decoded

    async def __call__(self, sample: Sample) -> Outcome: ...


def failed(reason: str, text: str, verdict: str | None = None) -> Outcome:
    """An outcome without a reward; `text` goes into the run folder, and so loses the secrets of its URLs."""
    return Outcome(0.0, 0.0, verdict=verdict, failure=reason, text=without_secrets(text))


def make_reward(urls: list[str], flags: SimpleNamespace, verifier: SimpleNamespace) -> Reward:
    """The reward that the flags name.

    Args:
        urls: of --reward.remote_url, split.
        flags: --reward.timeout and --reward.workers.
        verifier: the --verifier.* flags.
    """
    if not urls:
        return Later()
    if urls == [MATH_VERIFY]:
        return MathReward(verifier)
    if urls[0].endswith(".py"):
        return FunctionReward(urls[0], flags.workers, flags.timeout)
    return ServerReward(urls, flags.timeout)


class Later:
    """No reward yet: a reward model scores the whole batch."""

    reads = ()

    async def __call__(self, sample: Sample) -> Outcome:
        return Outcome(None, None)


class MathReward:
    """The built-in verifier; its time-outs, crashes and full memories are failures, the rest are verdicts."""

    reads = ("response",)

    def __init__(self, flags: SimpleNamespace) -> None:
        self._verifier = MathVerifier(**vars(flags))

    async def __call__(self, sample: Sample) -> Outcome:
        score = await asyncio.to_thread(self._verifier.score_one, sample.response, sample.label)
        if score.reason in FAILURES:
            return failed(score.reason, f"math-verify: {score.reason} on {sample.response[-200:]!r}", score.reason)
        return Outcome(score.value, score.value, verdict=score.reason)

    async def solves(self, text: str, label: str) -> bool:
        """Whether a text is right as it stands; one whose verdict failed is not."""
        return (await asyncio.to_thread(self._verifier.score_one, text, label)).value > 0


class FunctionReward:
    """reward_func of a Python file, in `workers` processes, each sample within `timeout` seconds."""

    reads = ALL_TEXT

    def __init__(self, path: str, workers: int, timeout: float) -> None:
        command = [sys.executable, "-m", "openrlhf_prefix.reward.function_worker", path]
        advice = f"The file is run as it is: `python {path}` shows the same error."
        self._pool = WorkerPool(command, workers, timeout, advice, START_SECONDS)
        self._threads = ThreadPoolExecutor(workers)  # asyncio's own would be used up by calls that hang

    def close(self) -> None:
        """Kills the processes."""
        self._pool.close()
        self._threads.shutdown(wait=False)

    async def __call__(self, sample: Sample) -> Outcome:
        call = asyncio.get_running_loop().run_in_executor(self._threads, self._pool.call, vars(sample))
        try:
            reply = await call
        except WorkerLost as lost:
            return failed(lost.reason, f"reward_func: {lost.reason}")
        if "error" in reply:
            return failed("error", reply["error"])
        return _read(reply["value"])


class ServerReward:
    """HTTP servers, one after the other: POST {"query", "prompts", "labels", "responses"}, lists of one."""

    reads = ALL_TEXT

    def __init__(self, urls: list[str], timeout: float) -> None:
        self._urls, self._timeout = itertools.cycle(urls), timeout

    async def __call__(self, sample: Sample) -> Outcome:
        body = {
            "query": [sample.query],
            "prompts": [sample.prompt],
            "labels": [sample.label],
            "responses": [sample.response],
        }
        try:
            return await asyncio.wait_for(self._tries(body), self._timeout)
        except asyncio.TimeoutError:
            return failed("timeout", f"no reward server answered within {self._timeout:g} s")

    async def _tries(self, body: dict[str, list[str]]) -> Outcome:
        said = ""
        for _ in range(TRIES):
            url = next(self._urls)
            try:
                return _read(await _post(url, body))
            except (aiohttp.ClientError, ValueError) as error:
                said = f"{url}: {type(error).__name__}: {error}"
            await asyncio.sleep(PAUSE)
        return failed("error", f"{TRIES} tries failed, the last with {said}")


async def _post(url: str, body: dict[str, Any]) -> Any:
    # Its own limit of 300 s would end what --reward.timeout allows.
    unlimited = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(timeout=unlimited) as session, session.post(url, json=body) as response:
        response.raise_for_status()
        return await response.json()


def _read(value: Any) -> Outcome:
    try:
        found = read_reward(value)
    except RewardShape as error:
        return failed("shape", str(error))
    return Outcome(found.reward, found.score, found.extra_logs)
