"""Token-in, token-out rollouts: the vLLM engine continues prompt | prefix, the verifier scores prefix + continuation.

Runs in the engine's Ray actor. A request carries ids; nothing is decoded and tokenised again. The response budget
counts the prefix: a prefix of L tokens leaves budget - L to the policy. The action span of the row is prefix and
continuation together, and only the continuation has log-probs of the engine.
"""

import asyncio
import os
import uuid
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import ray
from openrlhf.trainer.ray.vllm_engine import RolloutRayActor
from openrlhf.utils.utils import get_tokenizer

from openrlhf_prefix.runtime.engine import memory
from openrlhf_prefix.runtime.engine.process import watch_children
from openrlhf_prefix.runtime.engine.rewards import MathReward, Outcome, Reward, Sample, make_reward
from openrlhf_prefix.runtime.engine.turns import Turn, Turns
from openrlhf_prefix.runtime.platform import adapter
from openrlhf_prefix.runtime.seams import undecorated
from openrlhf_prefix.runtime.weights.check import EngineWeights
from openrlhf_prefix.settings.secrets import filled

UNJUDGED = Outcome(0.0, None)
CALLS = 1_000_000  # under way in one engine: a batch waits until it is whole, and no call is to wait behind it
RESTARTS = 10  # of one engine in a run; without an end, one that crashes while it loads would be made for ever


@dataclass(frozen=True)
class RolloutRequest:
    """One row to roll out.

    Example: slot 7 of problem "chains-17" starts from the first 30 of its demonstration's tokens:
    RolloutRequest("chains-17", 7, "3", [.. 12 ids], [.. 30 ids], ratio=0.76, seed=1301..., max_tokens=34).
    """

    problem_id: str
    slot: int
    answer: str
    prompt_ids: list[int]
    prefix_ids: list[int]
    ratio: float  # drawn share of the demonstration; 0 for a plain row
    seed: int  # of the engine's sampler for this row
    max_tokens: int  # for the continuation; 0 for a whole demonstration, which has none
    demonstration: int = -1  # number of the one that the prefix is from; -1 for a plain row
    judged: bool = True  # false: nobody is asked for its reward, which is learnt (controller/irl.py)


class PrefixExecutor:
    """Generates and scores one row. Text is made of it where the reward reads text, in a thread beside the engine's
    loop; and its prefix is judged while the engine goes on from there."""

    def __init__(self, reward: Reward, tokenizer: Any) -> None:
        self.reward, self.tokenizer = reward, tokenizer

    async def run(self, request: RolloutRequest, sampling_params: Any, engine: Any) -> dict[str, Any]:
        """A row in the form that OpenRLHF's generator turns into an Experience. Scored as soon as it is written, while
        the engine goes on with others."""
        start = request.prompt_ids + request.prefix_ids
        written, alone = await asyncio.gather(
            self._continued(request, start, sampling_params, engine), self._prefix_solves(request)
        )
        continuation, log_probs, truncated = written
        tokens = start + continuation
        outcome = await self.reward(await self._sample(request, tokens)) if request.judged else UNJUDGED
        return {
            "prompt": request.problem_id,
            "label": request.answer,
            "observation_tokens": tokens,
            "action_ranges": [(len(request.prompt_ids), len(tokens))],
            "rollout_log_probs": None if sampling_params.logprobs is None else [0.0] * len(start) + log_probs,
            "truncated": truncated,
            "request": request,
            "reward": outcome.reward,
            "scores": outcome.score,
            "extra_logs": outcome.extra_logs,
            "outcome": outcome,
            "solves_alone": alone,
        }

    async def _continued(
        self, request: RolloutRequest, start: list[int], sampling_params: Any, engine: Any
    ) -> tuple[list[int], list[float], bool]:
        """Ids and log-probs of the continuation, and whether the budget cut it off."""
        if not request.max_tokens:
            return [], [], False
        params = sampling_params.clone()
        params.max_tokens, params.seed = request.max_tokens, request.seed
        output = (await engine.generate(start, params)).outputs[0]
        continuation, found = list(output.token_ids), output.logprobs or []
        log_probs = [entry[token].logprob for token, entry in zip(continuation, found, strict=bool(found))]
        return continuation, log_probs, output.finish_reason == "length"

    async def _prefix_solves(self, request: RolloutRequest) -> bool | None:
        """Whether the prefix alone earns the reward, whatever follows it; None where nothing follows or none is
        known: a whole demonstration, a plain row, a reward that is not the built-in verifier."""
        if not request.prefix_ids or not request.max_tokens or not isinstance(self.reward, MathReward):
            return None
        text = await asyncio.to_thread(self.tokenizer.decode, request.prefix_ids, skip_special_tokens=True)
        return await self.reward.solves(text, request.answer)

    async def _sample(self, request: RolloutRequest, tokens: list[int]) -> Sample:
        """The row as the text that the reward reads; the response, prefix and continuation, without special tokens."""
        if not self.reward.reads:
            return Sample(label=request.answer)
        return await asyncio.to_thread(self._text, request, tokens)

    def _text(self, request: RolloutRequest, tokens: list[int]) -> Sample:
        parts = {
            "query": (tokens, False),
            "prompt": (request.prompt_ids, False),
            "response": (tokens[len(request.prompt_ids) :], True),
        }
        decoded = {
            name: self.tokenizer.decode(ids, skip_special_tokens=bare)
            for name, (ids, bare) in parts.items()
            if name in self.reward.reads
        }
        return Sample(label=request.answer, **decoded)


class PrefixRollout(undecorated(RolloutRayActor)):
    """OpenRLHF's vLLM engine actor with one call per group."""

    async def __init__(self, *args: Any, remote_rm_url: list[str] | None = None, **kwargs: Any) -> None:
        os.setpgid(0, 0)  # vLLM ends at a Ctrl-C of its own accord, and a run that saves first needs it until then
        chosen = adapter.current()
        kwargs |= {"worker_extension_cls": chosen.worker_extension, **chosen.engine_options()}
        kwargs["disable_log_stats"] = True  # of every row at every token, and nobody reads them
        self.agent = bool(kwargs.get("agent_func_path"))
        if chosen.name == "cuda" and memory.is_successor():
            await asyncio.to_thread(memory.wait_for, kwargs["gpu_memory_utilization"], kwargs.get("bundle_indices"))
        await super().__init__(*args, remote_rm_url=None, **kwargs)
        self.remote_url = remote_rm_url or []
        self.tokenizer = get_tokenizer(kwargs["model"], None, "left")
        watch_children()
        self.birth = uuid.uuid4().hex
        self.turns = Turns(self)

    async def ping(self) -> str:
        """A name that changes when Ray makes this actor anew. Raises EngineDeadError once vLLM's process is dead."""
        await self.llm.check_health()
        return self.birth

    async def configure(
        self, reward_flags: SimpleNamespace, verifier_flags: SimpleNamespace, variables: Mapping[str, str]
    ) -> None:
        """Called once by the generator, before the first request; `variables` are those of reward servers' URLs."""
        if not self.agent:
            reward = make_reward(filled(self.remote_url, variables), reward_flags, verifier_flags)
            self.executor = PrefixExecutor(reward, self.tokenizer)

    async def generate(self, *args: Any, **kwargs: Any) -> Any:
        with self.turns.refusals():
            return await super().generate(*args, **kwargs)

    async def shutdown(self) -> None:
        """Ends vLLM's engine process; Ray would kill this actor and leave that child behind."""
        self.llm.shutdown()

    async def expect_weights(self, *described: Any) -> None:
        """What comes in which bucket, see weights/buckets.py."""
        await self.llm.collective_rpc("expect_weights", args=described)

    async def receive_bucket(self, *numbered: Any) -> None:
        """The next part of the trainer's weights."""
        await self.llm.collective_rpc("receive_bucket", args=numbered)

    async def weight_fingerprints(self) -> list[EngineWeights]:
        """What every worker of this engine holds, see weights/check.py."""
        return [EngineWeights(**fields) for fields in await self.llm.collective_rpc("weight_fingerprints")]

    async def generate_group(
        self, turn: Turn, requests: list[RolloutRequest], sampling_params: Any, max_length: int
    ) -> list[dict]:
        """All rows of one group, in the order of the requests."""
        if self.agent:
            rows = [self._run_agent(request, sampling_params, max_length) for request in requests]
            return await asyncio.gather(*rows)
        started = await self.turns.come(turn, sum(request.max_tokens > 0 for request in requests))
        rows = [self.executor.run(request, sampling_params, self) for request in requests]
        return (await asyncio.gather(started, *rows))[1:]

    async def _run_agent(self, request: RolloutRequest, sampling_params: Any, max_length: int) -> dict[str, Any]:
        """A row of the user's own AgentExecutor, which starts from the prompt's text."""
        params = deepcopy(sampling_params)
        params.seed = request.seed
        row = await self.executor.execute(
            prompt=self.tokenizer.decode(request.prompt_ids, skip_special_tokens=False),
            label=request.answer,
            sampling_params=params,
            max_length=max_length,
            hf_tokenizer=self.tokenizer,
            llm_engine=self,
        )
        return {**row, "prompt": request.problem_id, "request": request}


# Ray makes a dead one anew, in its place and with the same arguments: the handle stays good, see engines.py.
PrefixRolloutActor = ray.remote(max_restarts=RESTARTS, max_concurrency=CALLS)(PrefixRollout)
