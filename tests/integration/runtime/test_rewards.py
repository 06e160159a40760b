"""The user's rewards: files in processes that can be killed, servers, deadlines, and the trial before a run."""

import asyncio
import threading
import time
from types import SimpleNamespace

import pytest

pytest.importorskip("openrlhf")

from aiohttp import ClientTimeout, web

from openrlhf_prefix.runtime.platform import adapter

adapter.choose().install()

from vllm import SamplingParams  # noqa: E402

from openrlhf_prefix.errors import UserError  # noqa: E402
from openrlhf_prefix.runtime.driver.preflight import try_reward  # noqa: E402
from openrlhf_prefix.runtime.engine.rewards import (  # noqa: E402
    FunctionReward,
    MathReward,
    Outcome,
    Sample,
    ServerReward,
    make_reward,
)
from openrlhf_prefix.runtime.engine.rollout import PrefixExecutor, RolloutRequest  # noqa: E402

FILE = """
import os, time

def reward_func(queries, prompts, labels, responses):
    kind = responses[0]
    if kind == "raise":
        raise KeyError("no such thing")
    if kind == "hang":
        time.sleep(1000)
    if kind == "die":
        os._exit(3)
    if kind == "shape":
        return [1.0]
    print("noise on stdout")
    return {"rewards": [float(responses == labels)], "extra_logs": {"length": len(queries[0])}}
"""


def sample(response: str) -> Sample:
    return Sample(query=f"q {response}", prompt="q ", label="right", response=response)


@pytest.fixture
def reward(tmp_path):
    path = tmp_path / "reward.py"
    path.write_text(FILE)
    made = FunctionReward(str(path), workers=2, timeout=1.0)
    yield made
    made.close()


def test_failures_cost_their_own_sample_alone(reward) -> None:
    """Eight samples at once on two processes: every failure is named, and everything around it is scored."""
    kinds = ["right", "raise", "hang", "wrong", "die", "shape", "hang", "right"]

    async def all_of_them() -> list[Outcome]:
        return await asyncio.gather(*(reward(sample(kind)) for kind in kinds))

    found = asyncio.run(all_of_them())
    assert [one.failure for one in found] == [None, "error", "timeout", None, "crash", "shape", "timeout", None]
    assert [one.reward for one in found] == [1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]
    assert found[0].extra_logs == {"length": 7.0}
    assert found[1].text.startswith("KeyError: 'no such thing'") and "reward.py" in found[1].text
    assert "expected {'rewards': number}" in found[5].text


def test_a_hang_ends_at_its_deadline(reward) -> None:
    asyncio.run(reward(sample("right")))  # the processes are up
    started = time.monotonic()
    assert asyncio.run(reward(sample("hang"))).failure == "timeout"
    assert 0.9 < time.monotonic() - started < 3.0


def served(handler, seconds: float, response: str = "right", path: str = "/") -> Outcome:
    """The outcome against a server of our own on this machine."""

    async def scenario() -> Outcome:
        application = web.Application()
        application.router.add_post("/", handler)
        runner = web.AppRunner(application, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = site._server.sockets[0].getsockname()[1]
        try:
            return await ServerReward([f"http://127.0.0.1:{port}{path}"], seconds)(sample(response))
        finally:
            await runner.cleanup()

    return asyncio.run(scenario())


def test_a_server_gets_what_openrlhf_sends_and_the_response() -> None:
    async def handler(request):
        body = await request.json()
        assert body == {"query": ["q right"], "prompts": ["q "], "labels": ["right"], "responses": ["right"]}
        return web.json_response({"rewards": [0.5], "scores": [1.0], "extra_logs": {"x": 2}})

    assert served(handler, 10.0) == Outcome(0.5, 1.0, {"x": 2.0})


def test_a_client_has_no_limit_of_its_own_below_the_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    """aiohttp ends a request after 300 s unless it is told otherwise; here after 0.2 s, below the flag."""
    monkeypatch.setattr("aiohttp.client.DEFAULT_TIMEOUT", ClientTimeout(total=0.2))

    async def handler(request):
        await asyncio.sleep(0.6)
        return web.json_response({"rewards": 1.0})

    assert served(handler, 20.0).reward == 1.0


def test_a_server_that_stumbles_is_asked_again() -> None:
    calls = []

    async def handler(request):
        calls.append(1)
        return web.json_response({"rewards": 1.0}) if len(calls) == 3 else web.Response(status=500)

    assert served(handler, 20.0).reward == 1.0 and len(calls) == 3


def test_a_failure_tells_no_secret_of_a_url(tmp_path) -> None:
    """Of a server's address, in aiohttp's words too, and of whatever a user's function asked."""
    url = "http://me:hunter2@127.0.0.1:1/score?key=hunter2"
    outcome = asyncio.run(ServerReward([url], 20.0)(sample("right")))
    assert "http://127.0.0.1:1/score?... ClientConnectorError" in outcome.text and "hunter2" not in outcome.text

    async def refusing(request):
        return web.Response(status=401)

    outcome = served(refusing, 20.0, path="/?key=hunter2")
    assert "ClientResponseError: 401" in outcome.text and "hunter2" not in outcome.text
    path = tmp_path / "reward.py"
    path.write_text(f"def reward_func(queries, prompts, labels):\n    raise OSError('401 for url: {url}')\n")
    made = FunctionReward(str(path), workers=1, timeout=10.0)
    try:
        outcome = asyncio.run(made(sample("right")))
    finally:
        made.close()
    assert outcome.failure == "error" and "401 for url: http://127.0.0.1:1/score?..." in outcome.text
    assert "hunter2" not in outcome.text


def test_a_server_that_is_down_slow_or_confused_is_a_failure() -> None:
    async def broken(request):
        return web.Response(status=503)

    async def slow(request):
        await asyncio.sleep(30)

    async def confused(request):
        return web.json_response([1.0])

    assert served(broken, 20.0).failure == "error" and "503" in served(broken, 20.0).text
    started = time.monotonic()
    assert served(slow, 1.0).failure == "timeout" and time.monotonic() - started < 10
    assert served(confused, 20.0).failure == "shape"


def test_no_reward_at_all_is_left_to_a_reward_model() -> None:
    made = make_reward([], SimpleNamespace(), SimpleNamespace())
    assert asyncio.run(made(sample("x"))) == Outcome(None, None)


class Words:
    """A tokenizer of which only decoding is asked."""

    def decode(self, ids) -> str:
        return " ".join(map(str, ids))


def trial(tmp_path, source: str) -> str | None:
    path = tmp_path / "mine.py"
    path.write_text(source)
    args = SimpleNamespace(reward=SimpleNamespace(remote_url=[str(path)], timeout=20.0))
    problem = SimpleNamespace(id="p-1", answer="4", prompt_ids=[1, 2], demonstrations=([3, 4],))
    return try_reward(args, Words(), problem)


def test_the_trial_before_a_run(tmp_path) -> None:
    good = "def reward_func(queries, prompts, labels):\n    return {'rewards': queries == ['1 23 4']}\n"
    assert trial(tmp_path, good) is None
    assert "ValueError: not today" in trial(tmp_path, "def reward_func(*a):\n    raise ValueError('not today')\n")
    with pytest.raises(UserError, match="no 'rewards'"):
        trial(tmp_path, "def reward_func(*a):\n    return {'reward': 1}\n")
    with pytest.raises(UserError, match="(?s)does not start.*No module named 'nowhere'"):
        trial(tmp_path, "import nowhere\ndef reward_func(*a): ...\n")


class Letters:
    """A tokenizer whose ids are characters."""

    def decode(self, ids: list[int], skip_special_tokens: bool) -> str:
        return "".join(map(chr, ids))


@pytest.mark.parametrize(
    ("prefix", "max_tokens", "expected"),
    [
        ("48+24 = 72", 10, True),
        ("48+24 =", 10, False),
        ("", 10, None),  # a plain row
        ("48+24 = 72", 0, None),  # a whole demonstration is right on purpose
    ],
)
def test_a_prefix_is_judged_without_what_follows_it(prefix: str, max_tokens: int, expected: bool | None) -> None:
    reward = MathReward(SimpleNamespace(workers=1, timeout=20.0, memory_mb=2048, fallback="last_number"))
    request = RolloutRequest("p", 1, "72", [1, 2], [ord(letter) for letter in prefix], 0.9, 0, max_tokens)
    assert asyncio.run(PrefixExecutor(reward, Letters())._prefix_solves(request)) is expected


@pytest.mark.parametrize(
    ("reads", "decoded"),
    [((), []), (("response",), ["cd"]), (("query", "prompt", "response"), ["abcd", "ab", "cd"])],
)
def test_a_row_is_decoded_once_for_each_text_that_the_reward_reads(reads: tuple[str, ...], decoded: list[str]) -> None:
    class Noted(Letters):
        def decode(self, ids: list[int], skip_special_tokens: bool) -> str:
            made.append(super().decode(ids, skip_special_tokens))
            return made[-1]

    made: list[str] = []
    request = RolloutRequest("p", 0, "right", [97, 98], [], 0.0, 0, 10)
    executor = PrefixExecutor(SimpleNamespace(reads=reads), Noted())
    sample = asyncio.run(executor._sample(request, [97, 98, 99, 100]))
    assert made == decoded and sample.label == "right"
    assert [getattr(sample, name) for name in ("query", "prompt", "response") if name in reads] == decoded


def test_what_each_reward_reads(tmp_path) -> None:
    assert MathReward.reads == ("response",)
    assert make_reward([], None, None).reads == ()
    assert FunctionReward.reads == ServerReward.reads == ("query", "prompt", "response")


def test_the_loop_of_the_engine_goes_on_while_a_row_is_decoded() -> None:
    class Slow(Letters):
        def decode(self, ids: list[int], skip_special_tokens: bool) -> str:
            assert ticked.wait(10.0), "the loop stood still"
            return super().decode(ids, skip_special_tokens)

    async def both() -> None:
        request = RolloutRequest("p", 0, "right", [97], [], 0.0, 0, 10)
        executor = PrefixExecutor(SimpleNamespace(reads=("response",)), Slow())
        sample = asyncio.create_task(executor._sample(request, [97, 98]))
        await asyncio.sleep(0.01)
        ticked.set()
        await sample

    ticked = threading.Event()
    asyncio.run(both())


class Judge(MathReward):
    reads = ()

    def __init__(self) -> None:
        self.asked = asyncio.Event()

    async def __call__(self, sample: Sample) -> Outcome:
        return Outcome(1.0, 1.0)

    async def solves(self, text: str, label: str) -> bool:
        self.asked.set()
        return text == "a"


def test_a_prefix_is_judged_while_the_engine_goes_on_from_it() -> None:
    class Engine:
        async def generate(self, start: list[int], params: SamplingParams) -> SimpleNamespace:
            await asyncio.wait_for(judge.asked.wait(), 10.0)
            assert (start, params.max_tokens, params.seed) == ([1, 97], 3, 17)
            return SimpleNamespace(outputs=[SimpleNamespace(token_ids=(5, 6), logprobs=None, finish_reason="length")])

    async def run() -> dict:
        return await PrefixExecutor(judge, Letters()).run(request, SamplingParams(max_tokens=9), Engine())

    judge, request = Judge(), RolloutRequest("p", 1, "right", [1], [97], 0.9, 17, 3)
    row = asyncio.run(run())
    assert row["solves_alone"] is True and row["truncated"] is True
    assert row["observation_tokens"] == [1, 97, 5, 6] and row["action_ranges"] == [(1, 4)]


def test_nobody_is_asked_for_a_reward_that_is_learnt() -> None:
    class Nobody:
        reads = ("response",)

        async def __call__(self, sample: Sample) -> Outcome:
            raise AssertionError("asked")

    class Engine:
        async def generate(self, start: list[int], params: SamplingParams) -> SimpleNamespace:
            return SimpleNamespace(outputs=[SimpleNamespace(token_ids=(5,), logprobs=None, finish_reason="stop")])

    request = RolloutRequest("p", 1, "", [1], [], 0.0, 17, 3, judged=False)
    row = asyncio.run(PrefixExecutor(Nobody(), Letters()).run(request, SamplingParams(max_tokens=9), Engine()))
    assert row["observation_tokens"] == [1, 5] and row["reward"] == 0.0 and row["scores"] is None
    assert row["outcome"].failure is None and row["outcome"].verdict is None


def test_a_reward_of_the_user_is_not_asked_about_prefixes(reward) -> None:
    request = RolloutRequest("p", 1, "right", [1], [ord(letter) for letter in "raise"], 0.9, 0, 10)
    assert asyncio.run(PrefixExecutor(reward, Letters())._prefix_solves(request)) is None
