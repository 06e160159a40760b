"""How often a model is right on tasks of reasoning-gym before any training: avg@n and pass@n of many candidates.

    python benchmarks/reasoning_gym_search.py MODEL --samples 8 --problems 32 --shots 0 2 \
        chain_sum gcd:max_value=50 countdown:min_numbers=3,max_numbers=3

One row a candidate and number of worked examples: avg@n and pass@n by the reward of a run (the last box, judged
by reasoning-gym), the share of responses with a box and of those that were cut off, and tokens a response.
"""

import argparse
import time
from itertools import islice
from types import SimpleNamespace
from typing import Any

from openrlhf_prefix.data.gym import rows as gym
from openrlhf_prefix.reward import gym as reward
from openrlhf_prefix.reward.answer import extract_answer
from openrlhf_prefix.runtime.evaluate.sampling import make_engine
from openrlhf_prefix.runtime.platform import adapter


def main() -> None:
    options = parse()
    adapter.choose()
    engine = SimpleNamespace(
        model=options.model, tensor_parallel_size=1, gpu_memory_utilization=0.3, trust_remote_code=False
    )
    llm_engine = make_engine(engine, options.max_len)
    tokenizer = llm_engine.get_tokenizer()
    print("| task | settings | examples | avg@n | pass@n | boxed | cut off | tokens | seconds |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for candidate in options.candidates:
        task, _, settings = candidate.partition(":")
        for shots in options.shots:
            drawn = gym.rows(task, gym.parsed(settings.split(",") if settings else []), options.seed, shots)
            print(line(llm_engine, tokenizer, task, settings, shots, list(islice(drawn, options.problems)), options))


def line(engine: Any, tokenizer: Any, task: str, settings: str, shots: int, problems: list[Any], options: Any) -> str:
    import json

    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    started = time.time()
    for index, row in enumerate(problems):
        ids = tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True, return_dict=False)
        for place in range(options.samples):
            params = SamplingParams(
                temperature=options.temperature,
                max_tokens=options.max_new_tokens,
                seed=1000 * index + place,
                output_kind=RequestOutputKind.FINAL_ONLY,
            )
            engine.add_request(f"{index}/{place}", {"prompt_token_ids": ids}, params)
    right, boxed, cut, tokens = [0] * len(problems), 0, 0, 0
    while engine.has_unfinished_requests():
        for output in engine.step():
            found = output.outputs[0]
            index = int(output.request_id.split("/")[0])
            right[index] += reward.score(found.text, json.loads(problems[index]["entry"])) >= 1
            boxed += extract_answer(found.text) is not None
            cut += found.finish_reason == "length"
            tokens += len(found.token_ids)
            if options.show and output.request_id == "0/0":
                print(repr(found.text))
    count = len(problems) * options.samples
    shares = [sum(right) / count, sum(one > 0 for one in right) / len(right), boxed / count, cut / count]
    cells = [task, settings, shots, *(f"{100 * share:.1f}" for share in shares), round(tokens / count)]
    return f"| {' | '.join(map(str, cells))} | {time.time() - started:.0f} |"


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("candidates", nargs="+", help="TASK or TASK:KEY=VALUE,KEY=VALUE")
    parser.add_argument("--problems", type=int, default=32)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--shots", type=int, nargs="+", default=[0])
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--max_new_tokens", type=int, default=160)
    parser.add_argument("--max_len", type=int, default=1024)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--show", action="store_true", help="print a response of every candidate")
    return parser.parse_args()


if __name__ == "__main__":
    main()
