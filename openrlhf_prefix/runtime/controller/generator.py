"""From problems to rollout requests, and from responses to Experiences.

Runs in the controller. For every slot of a group the sampler draws a prefix at the current global step; evaluation
draws none. Each group goes to one engine as one call. Responses come back in any order and are put back into the
order of the problems, so that a batch does not depend on which engine was faster.

The rollouts after an evaluated step come from the same weights as its evaluation: the engines are asked for both at
once, and what would wait for the longest rows of one is busy with the other.
"""

import heapq
import math
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from openrlhf.trainer.ppo_utils.experience import Experience
from openrlhf.trainer.ppo_utils.samples_generator import SamplesGenerator
from openrlhf.trainer.ray.vllm_engine import batch_vllm_engine_call
from vllm import SamplingParams
from vllm.sampling_params import RequestOutputKind

from openrlhf_prefix.algorithm.sampler import EVALUATION, PLAIN, PrefixSampler, request_seed
from openrlhf_prefix.data.problems import Problem
from openrlhf_prefix.errors import RunStopped
from openrlhf_prefix.reward.math import REASONS
from openrlhf_prefix.runtime.controller.engines import Engines
from openrlhf_prefix.runtime.controller.filtering import with_signal
from openrlhf_prefix.runtime.engine.rewards import Outcome
from openrlhf_prefix.runtime.engine.rollout import RolloutRequest
from openrlhf_prefix.runtime.seams import replaced
from openrlhf_prefix.settings.derived import learns_reward


@dataclass
class Evaluation:
    """Samples of all held-out problems with the weights of now, asked for with the next rollouts."""

    options: dict[str, Any]  # of generate_samples, for this
    answers: list[Any] = field(default_factory=list)  # Ray references, one a problem, once the engines were asked
    samples: list[Experience] = field(default_factory=list)  # in the order of the problems
    failures: list[dict[str, Any]] = field(default_factory=list)  # rewards that failed
    seconds: float = 0.0  # waited for it, after the last rollout where it came with rollouts


class PrefixSamplesGenerator(SamplesGenerator):
    """OpenRLHF's generator with prefixes."""

    def __init__(self, *, sampler: PrefixSampler, engines: Engines, budget: int, end: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.sampler, self.engines = sampler, engines
        self.end = end  # id that ends a whole demonstration
        self.budget = budget
        self.step = 0  # global step that the next rollouts belong to; set by the trainer
        self.failures: list[dict[str, Any]] = []  # rewards that failed in the last batch
        self._position: dict[str, int] = {}
        self.evaluation: Evaluation | None = None  # still to be sampled

    def evaluated(self, evaluation: Evaluation) -> Evaluation:
        """With its samples: those that came with the last rollouts, or else sampled now, by themselves."""
        if self.evaluation is evaluation:
            with self._awake():
                self._ask([], {})
                self._collect()
        return evaluation

    @contextmanager
    def _awake(self) -> Iterator[None]:
        """The engines are awake while the block runs."""
        if not self.args.vllm.enable_sleep:
            yield
            return
        batch_vllm_engine_call(self.vllm_engines, "wake_up")
        yield
        batch_vllm_engine_call(self.vllm_engines, "sleep")

    def _collect(self) -> None:
        """The samples of the evaluation under way; failed rewards of theirs stay apart from those of rollouts."""
        evaluation, self.evaluation = self.evaluation, None
        started = time.time()
        of_rollouts, self.failures = self.failures, evaluation.failures
        for answer in evaluation.answers:
            rows = self.engines.get(answer)
            evaluation.samples += [self._process_response_into_experience(row, **evaluation.options) for row in rows]
        self._check_failures(len(evaluation.samples))
        self.failures, evaluation.seconds = of_rollouts, time.time() - started

    def _generate_vllm(
        self, dataloader_iter: Any, num_prompts: int, dynamic_filtering: bool, **kwargs: Any
    ) -> tuple[list[Experience], int, bool]:
        """The rows of `num_prompts` problems, how many problems they took, and whether these are at their end.

        With dynamic filtering the groups that train nothing are replaced in rounds, by the problems that come next:
        upstream asks for another one as soon as a group is done, and so the engines' pace would choose the problems.
        """
        self._position, self.failures = {}, []
        kept, consumed, rows, exhausted = [], 0, 0, False
        missing = num_prompts
        while missing and not exhausted:
            found, taken, exhausted = self._rolled_out(dataloader_iter, missing, **kwargs)
            consumed, rows = consumed + taken, rows + len(found)
            if not dynamic_filtering:
                kept = found
                break
            kept += with_signal(found, self.args)
            missing = num_prompts - len(kept) // self.args.rollout.n_samples_per_prompt
        self._check_failures(rows)
        if self.evaluation and self.evaluation.answers:
            self._collect()
        _level_info(kept)
        return kept, consumed, exhausted

    def _rolled_out(self, problems: Any, count: int, **kwargs: Any) -> tuple[list[Experience], int, bool]:
        """The rows of the next `count` problems in their order, whichever engine was faster."""
        # Upstream's loop asks `ray` for the rows; the engines answer in its place, and replace one that died.
        with replaced("openrlhf.trainer.ppo_utils.samples_generator", "ray", self.engines):
            rows, taken, exhausted = super()._generate_vllm(problems, count, dynamic_filtering=False, **kwargs)
        # sort() is stable: the rows of a group stay together and in the order of their slots.
        rows.sort(key=lambda row: self._position[row.prompts[0]])
        return rows, taken, exhausted

    def _dispatch_prompts_to_vllm(
        self, prompts: list[Problem], labels: list[str], *, images: Any = None, **generate_kwargs: Any
    ) -> list:
        """Asks for one group per problem; returns Ray references."""
        for problem in prompts:
            self._position.setdefault(problem.id, len(self._position))
        return self._ask(prompts, generate_kwargs)

    def _ask(self, prompts: list[Problem], options: dict[str, Any]) -> list:
        """Asks the engine with the fewest rows for each group; those of an evaluation that is due come last."""
        waiting = self.evaluation if self.evaluation and not self.evaluation.answers else None
        asked = [(problem, options, False) for problem in prompts]
        if waiting:
            asked += [(problem, waiting.options, True) for problem in self.eval_dataloader.problems]
        heap = [(load, index) for index, load in enumerate(self.engines.loads())]
        heapq.heapify(heap)
        groups = []
        for problem, of_group, evaluating in asked:
            rows = of_group.get("n_samples_per_prompt", self.args.rollout.n_samples_per_prompt)
            load, index = heapq.heappop(heap)
            heapq.heappush(heap, (load + rows, index))
            requests = [self._request(problem, slot, evaluating) for slot in range(rows)]
            groups.append((index, requests, self._sampling_params(of_group)))
        answers = self.engines.submit(groups, self.args.data.max_len)
        if waiting:
            waiting.answers = answers[len(prompts) :]
        return answers[: len(prompts)]

    def _sampling_params(self, generate_kwargs: dict[str, Any]) -> SamplingParams:
        """One output a row, at its end; as text only where a stop string is looked for in it, or an agent reads it."""
        text = bool(self.args.rollout.stop_strings or self.args.train.agent_func_path)
        return SamplingParams(
            output_kind=RequestOutputKind.FINAL_ONLY,
            detokenize=text,
            temperature=generate_kwargs["temperature"],
            top_p=generate_kwargs["top_p"],
            max_tokens=self.budget,
            min_tokens=1,
            skip_special_tokens=False,
            stop=self.args.rollout.stop_strings or None,
            stop_token_ids=self.args.rollout.stop_token_ids or None,
            include_stop_str_in_output=True,
            logprobs=0 if self.args.algo.advantage.is_correction_level != "off" else None,
        )

    def _request(self, problem: Problem, slot: int, evaluating: bool) -> RolloutRequest:
        draw = PLAIN
        if not evaluating:
            lengths = [len(demonstration) for demonstration in problem.demonstrations]
            draw = self.sampler.draw(self.step, problem.id, slot, lengths, problem.limits)
        prefix = problem.demonstrations[draw.demonstration][: draw.length].tolist() if draw.length else []
        whole = draw.length > 0 and self.sampler.whole
        return RolloutRequest(
            problem_id=problem.id,
            slot=slot,
            answer=problem.answer,
            prompt_ids=problem.prompt_ids.tolist(),
            prefix_ids=[*prefix, self.end] if whole else prefix,
            ratio=draw.ratio,
            demonstration=-1 if draw.demonstration is None else draw.demonstration,
            seed=request_seed(self.sampler.seed, EVALUATION if evaluating else self.step, problem.id, slot),
            max_tokens=0 if whole else self.budget - len(prefix),
            judged=evaluating or not learns_reward(self.args),
        )

    def _process_response_into_experience(self, response: dict[str, Any], **generate_kwargs: Any) -> Experience:
        experience = super()._process_response_into_experience(response, **generate_kwargs)
        request: RolloutRequest = response["request"]
        # One integer per row; the prefix mask is rebuilt from it and the action mask wherever it is needed.
        experience.info["prefix_length"] = torch.tensor([len(request.prefix_ids)])
        experience.info["prefix_ratio"] = torch.tensor([request.ratio if request.prefix_ids else 0.0])
        if self.sampler.trust:
            experience.info["demonstration"] = torch.tensor([request.demonstration])
        outcome: Outcome = response.get("outcome", Outcome(None, None))
        experience.info["reward_failed"] = torch.tensor([outcome.failure is not None])
        if outcome.verdict is not None:
            experience.info["verdict"] = torch.tensor([REASONS.index(outcome.verdict)])
        if response.get("solves_alone") is not None:
            experience.info["solves_alone"] = torch.tensor([float(response["solves_alone"])])
        if outcome.failure is not None:
            place = {"problem": request.problem_id, "slot": request.slot}
            self.failures.append({**place, "reason": outcome.failure, "text": outcome.text})
        return experience

    def _check_failures(self, rows: int) -> None:
        """Raises RunStopped where a failed reward is not to be passed over, or too many of them failed."""
        if not self.failures:
            return
        flags, first = self.args.reward, self.failures[0]
        said = f"the first, of problem {first['problem']}: {first['text'].splitlines()[0]}"
        if flags.on_error == "raise":
            raise RunStopped(f"{len(self.failures)} of {rows} rewards failed (--reward.on_error raise); {said}")
        if len(self.failures) > flags.error_limit * rows:
            reasons = Counter(failure["reason"] for failure in self.failures)
            shown = ", ".join(f"{count} {reason}" for reason, count in reasons.items())
            raise RunStopped(
                f"{len(self.failures)} of {rows} rewards failed ({shown}), more than --reward.error_limit "
                f"{flags.error_limit:g} allows; {said}"
            )


def _level_info(experiences: list[Experience]) -> None:
    """Gives all rows the same metrics: one whose reward failed brings none of the user's, and counts for none."""
    names = dict.fromkeys(name for experience in experiences for name in experience.info)
    for experience in experiences:
        missing = {name: torch.tensor([math.nan]) for name in names if name not in experience.info}
        experience.info |= missing
