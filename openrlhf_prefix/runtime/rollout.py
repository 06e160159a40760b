"""Token-in, token-out rollouts: the vLLM engine continues prompt | prefix, the verifier scores prefix + continuation.

Runs in the engine's Ray actor. A request carries ids; nothing is decoded and tokenised again. The response budget
counts the prefix: a prefix of L tokens leaves budget - L to the policy. The action span of the row is prefix and
continuation together, and only the continuation has log-probs of the engine.
"""

import asyncio
from copy import deepcopy
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import ray
from openrlhf.trainer.ray.vllm_engine import RolloutRayActor
from openrlhf.utils.agent import SingleTurnAgentExecutor
from openrlhf.utils.utils import get_tokenizer

from openrlhf_prefix.flags import MATH_VERIFY
from openrlhf_prefix.reward import MathVerifier
from openrlhf_prefix.runtime import platform
from openrlhf_prefix.runtime.seams import undecorated
from openrlhf_prefix.runtime.weight_check import EngineWeights


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
    max_tokens: int  # for the continuation


class PrefixExecutor(SingleTurnAgentExecutor):
    """Generates and scores one row. Rewards: the built-in verifier, or the user's function or server as upstream."""

    def __init__(self, remote_url: list[str], verifier_flags: SimpleNamespace, tokenizer: Any) -> None:
        super().__init__(remote_url)
        self.tokenizer = tokenizer
        self.verifier = None
        if remote_url == [MATH_VERIFY]:
            self.verifier = MathVerifier(**vars(verifier_flags))

    async def run(self, request: RolloutRequest, sampling_params: Any, engine: Any) -> dict[str, Any]:
        """A row in the form that OpenRLHF's generator turns into an Experience."""
        start = request.prompt_ids + request.prefix_ids
        params = deepcopy(sampling_params)
        params.max_tokens, params.seed = request.max_tokens, request.seed
        output = (await engine.generate(start, params)).outputs[0]
        continuation = list(output.token_ids)
        log_probs = None
        if output.logprobs is not None:
            log_probs = [0.0] * len(start)
            log_probs += [entry[token].logprob for token, entry in zip(continuation, output.logprobs, strict=True)]
        row = {
            "prompt": request.problem_id,
            "label": request.answer,
            "observation_tokens": start + continuation,
            "action_ranges": [(len(request.prompt_ids), len(start) + len(continuation))],
            "rollout_log_probs": log_probs,
            "truncated": output.finish_reason == "length",
            "request": request,
        }
        return {**row, **await self.score(row)}

    async def score(self, row: dict[str, Any]) -> dict[str, Any]:
        """reward, scores and extra_logs of a row. An exception of the user's reward propagates and ends the run."""
        request: RolloutRequest = row["request"]
        if self.verifier is not None:
            response = row["observation_tokens"][len(request.prompt_ids) :]
            text = self.tokenizer.decode(response, skip_special_tokens=True)
            score = await asyncio.to_thread(self.verifier.score_one, text, request.answer)
            return {"reward": score.value, "scores": score.value, "extra_logs": {}, "verdict": score.reason}
        if not self.reward_endpoints:
            return {"reward": None, "scores": None, "extra_logs": {}}  # a reward model scores the batch later
        query = self.tokenizer.decode(row["observation_tokens"], skip_special_tokens=False)
        prompt = self.tokenizer.decode(request.prompt_ids, skip_special_tokens=False)
        fetch = self._fetch_rewards_via_func if self.reward_func else self._fetch_rewards_via_http
        found = (await fetch([query], [prompt], [request.answer]))[0]
        return {
            "reward": _single(found["rewards"]),
            "scores": _single(found.get("scores", found["rewards"])),
            "extra_logs": found.get("extra_logs") or {},
        }


def _single(value: Any) -> float:
    """The number of one query, which a server or function may send bare or as a list of one."""
    return float(value[0] if isinstance(value, (list, tuple)) else value)


class PrefixRollout(undecorated(RolloutRayActor)):
    """OpenRLHF's vLLM engine actor with one call per group."""

    async def __init__(self, *args: Any, remote_rm_url: list[str] | None = None, **kwargs: Any) -> None:
        chosen = platform.current()
        kwargs |= {"worker_extension_cls": chosen.worker_extension, **chosen.engine_options()}
        self.agent = bool(kwargs.get("agent_func_path"))
        await super().__init__(*args, remote_rm_url=None, **kwargs)
        self.remote_url = remote_rm_url or []
        self.tokenizer = get_tokenizer(kwargs["model"], None, "left")

    async def configure(self, verifier_flags: SimpleNamespace) -> None:
        """Called once by the generator, before the first request."""
        if not self.agent:
            self.executor = PrefixExecutor(self.remote_url, verifier_flags, self.tokenizer)

    async def shutdown(self) -> None:
        """Ends vLLM's engine process; Ray would kill this actor and leave that child behind."""
        self.llm.shutdown()

    async def weight_fingerprints(self) -> list[EngineWeights]:
        """What every worker of this engine holds, see weight_check.py."""
        return [EngineWeights(**fields) for fields in await self.llm.collective_rpc("weight_fingerprints")]

    async def generate_group(
        self, requests: list[RolloutRequest], sampling_params: Any, max_length: int
    ) -> list[dict]:
        """All rows of one group, in the order of the requests."""
        if self.agent:
            rows = [self._run_agent(request, sampling_params, max_length) for request in requests]
        else:
            rows = [self.executor.run(request, sampling_params, self) for request in requests]
        return await asyncio.gather(*rows)

    async def _run_agent(self, request: RolloutRequest, sampling_params: Any, max_length: int) -> dict[str, Any]:
        """A row of the user's own AgentExecutor, which starts from the prompt's text."""
        row = await self.executor.execute(
            prompt=self.tokenizer.decode(request.prompt_ids, skip_special_tokens=False),
            label=request.answer,
            sampling_params=deepcopy(sampling_params),
            max_length=max_length,
            hf_tokenizer=self.tokenizer,
            llm_engine=self,
        )
        return {**row, "prompt": request.problem_id, "request": request}


PrefixRolloutActor = ray.remote(PrefixRollout)
