"""Samples of questions by vLLM; each is judged in a thread and recorded as soon as it is written.

All requests are given to the engine at once, which fills its batch as others end; a request's seed depends on its
problem and its place alone, so that a resumed evaluation draws what the killed one would have drawn.
"""

import argparse
import os
import sys
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from tqdm import tqdm

from openrlhf_prefix.algorithm.sampler import EVALUATION, request_seed
from openrlhf_prefix.evaluation.records import Records, Verdict
from openrlhf_prefix.reward import Score
from openrlhf_prefix.runtime.evaluate.grading import Grade, grading
from openrlhf_prefix.runtime.evaluate.prepare import Asked, Prepared
from openrlhf_prefix.runtime.platform import adapter

Slot = tuple[Asked, int]  # a question, and which of its samples


def sample(prepared: Prepared, options: argparse.Namespace, records: Records) -> None:
    """Draws, judges and records every sample that has no record yet; without one, no engine is made."""
    slots = {
        (question.task, question.problem, place): (question, place)
        for question in prepared.asked
        for place in range(prepared.samples[question.task])
    }
    missing = [slots[key] for key in records.missing(slots)]
    if not missing:
        return
    with grading(options, missing[0][0]) as (grade, workers), ThreadPoolExecutor(workers) as threads:
        engine, every = make_engine(options, prepared.max_len), 0.5 if sys.stderr.isatty() else 60.0
        done = len(slots) - len(missing)
        with tqdm(total=len(slots), initial=done, unit=" samples", mininterval=every, smoothing=0.05) as bar:
            judge = Judge(grade, threads, records, bar)
            try:
                generate(engine, missing, options, judge)
                judge.wait()
            except BaseException:
                threads.shutdown(wait=False, cancel_futures=True)
                raise


class Judge:
    """Judges texts in threads, and records the verdicts in the thread that calls it, each with the seconds since the
    one before: those of all lines add up to what the sampling took, kills and resumes included."""

    def __init__(self, grade: Grade, threads: ThreadPoolExecutor, records: Records, bar: Any) -> None:
        self.grade, self.threads, self.records, self.bar = grade, threads, records, bar
        self.at = time.monotonic()  # the last verdict, or the start
        self.waiting: deque[tuple[Slot, Any, Future[tuple[str | None, Score]]]] = deque()

    def __call__(self, slot: Slot, output: Any) -> None:
        """Takes one output of the engine: its text, token_ids and finish_reason."""
        self.waiting.append((slot, output, self.threads.submit(self.grade, slot[0], output.text)))
        while self.waiting and self.waiting[0][2].done():
            self._record()

    def wait(self) -> None:
        """Until all are recorded."""
        while self.waiting:
            self._record()

    def _record(self) -> None:
        (question, place), output, future = self.waiting.popleft()
        answer, score = future.result()
        verdict = Verdict(
            question.problem, place, score.value, score.reason, output.finish_reason, len(output.token_ids)
        )
        more: dict[str, Any] = {
            "prompt": question.text,
            "completion": output.text,
            "extracted": answer,
            "gold": question.gold,
        }
        now = time.monotonic()
        more["seconds"], self.at = round(now - self.at, 6), now
        self.records.add(question.task, verdict, **more)
        self.bar.update()


def generate(engine: Any, slots: Sequence[Slot], options: argparse.Namespace, judge: Judge) -> None:
    """Runs the engine until every slot's output went to `judge`."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    for index, (question, place) in enumerate(slots):
        params = SamplingParams(
            temperature=options.temperature,
            top_p=options.top_p,
            max_tokens=options.max_new_tokens,
            stop=options.stop_strings or None,
            stop_token_ids=options.stop_token_ids or None,
            include_stop_str_in_output=True,
            seed=request_seed(options.seed, EVALUATION, question.problem, place),
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        engine.add_request(str(index), {"prompt_token_ids": question.ids}, params)
    while engine.has_unfinished_requests():
        for output in engine.step():
            judge(slots[int(output.request_id)], output.outputs[0])


def make_engine(options: argparse.Namespace, max_len: int) -> Any:
    """vLLM's engine on this machine; its log goes nowhere, as it goes to stdout, which is for the result."""
    chosen = adapter.choose()
    chosen.check_installed()
    os.environ.update(chosen.engine_environment())
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    chosen.patch_engine()
    from vllm import LLM

    return LLM(
        options.model,
        dtype="bfloat16",
        max_model_len=max_len,
        tensor_parallel_size=options.tensor_parallel_size,
        gpu_memory_utilization=options.gpu_memory_utilization,
        disable_log_stats=True,
        use_tqdm_on_load=False,
        trust_remote_code=options.trust_remote_code,
        **chosen.engine_options(),
    ).llm_engine
