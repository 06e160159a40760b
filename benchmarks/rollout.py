"""Rollouts through our engine actor against `vllm.LLM.generate` offline, at the same number of tokens.

    python benchmarks/rollout.py                  # rows of 32 and 256 tokens, five pairs each

One engine each, the same random model of 3M parameters with the quickstart's tokenizer, the same prompts, every row to
its full length with a seed of its own. Ours has all that a run has: requests by Ray from the controller's side, text
and math-verify for every row, Experiences at the end. Offline generates ids and nothing else. Both run in turn.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ray
import torch

from openrlhf_prefix.data import tiny_tokenizer
from openrlhf_prefix.data.chains import INSTRUCTION
from openrlhf_prefix.runtime.audit.exactness.measure import free_port
from openrlhf_prefix.runtime.driver import launch
from openrlhf_prefix.runtime.platform import adapter
from openrlhf_prefix.runtime.weights.sync import GlooCommunicator

LENGTHS, GROUPS, ROWS, PAIRS = (32, 256), 16, 8, 5
SIZES = {"hidden_size": 192, "intermediate_size": 768, "num_hidden_layers": 4, "num_attention_heads": 6}
PROMPT = 24  # tokens


def make_model(folder: Path) -> None:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    tokenizer = tiny_tokenizer.make_tokenizer(INSTRUCTION)
    config = Qwen2Config(vocab_size=len(tokenizer), num_key_value_heads=2, max_position_embeddings=2048, **SIZES)
    Qwen2ForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def options(model: str) -> dict[str, Any]:
    """Of both engines."""
    return {
        "model": model,
        "seed": 1,
        "max_model_len": 1024,
        "enable_prefix_caching": True,
        "dtype": "bfloat16",
    }


@ray.remote(num_gpus=0.1)
class Offline:
    """vllm.LLM in a process of its own."""

    def __init__(self, model: str) -> None:
        import vllm

        chosen = adapter.current()
        extras = {"worker_extension_cls": chosen.worker_extension, **chosen.engine_options()}
        self.llm = vllm.LLM(**options(model), **extras, disable_log_stats=True)
        self.llm.collective_rpc(_patch)

    def generate(self, prompts: list[list[int]], length: int, seed: int) -> tuple[float, int]:
        """Seconds and tokens of one batch."""
        from vllm import SamplingParams
        from vllm.inputs import TokensPrompt

        rows = [TokensPrompt(prompt_token_ids=prompt) for prompt in prompts for _ in range(ROWS)]
        params = [
            SamplingParams(max_tokens=length, ignore_eos=True, detokenize=False, seed=seed + number)
            for number in range(len(rows))
        ]
        started = time.perf_counter()
        outputs = self.llm.generate(rows, params, use_tqdm=False)
        return time.perf_counter() - started, sum(len(output.outputs[0].token_ids) for output in outputs)


def _patch(worker: Any) -> None:
    """As an engine of ours when it joins the weight sync."""
    adapter.current().patch_engine()


class Ours:
    """An engine actor, asked as the controller asks it."""

    def __init__(self, model: str) -> None:
        from openrlhf_prefix.runtime.controller.engines import Engines
        from openrlhf_prefix.runtime.controller.generator import PrefixSamplesGenerator
        from openrlhf_prefix.runtime.engine.rollout import PrefixRolloutActor

        placed = PrefixRolloutActor.options(num_gpus=0.1, num_cpus=1)
        extras = {"distributed_executor_backend": "uni", "num_gpus": 1, "remote_rm_url": ["math-verify"]}
        self.engine = placed.remote(**options(model), **extras)
        reward = SimpleNamespace(timeout=60.0, workers=2)
        verifier = SimpleNamespace(workers=2, timeout=5.0, memory_mb=2048, fallback="none")
        flags = SimpleNamespace(reward=reward, verifier=verifier)
        joined = self.engine.init_process_group.remote("127.0.0.1", port := free_port(), 1, 2, "sync", "gloo", False)
        self.group = GlooCommunicator("127.0.0.1", port, 0, 2)  # on a CPU the engine learns there how to multiply
        ray.get(joined)
        self.engines = Engines([self.engine], flags, {}, rejoin=lambda generating: None, watch=lambda: None)
        self.engines.connect()
        self.generator = PrefixSamplesGenerator.__new__(PrefixSamplesGenerator)  # its constructor wants a whole run
        self.generator.failures = []
        rollout = SimpleNamespace(stop_strings=None, stop_token_ids=None)
        algo = SimpleNamespace(advantage=SimpleNamespace(is_correction_level="off"))
        self.generator.args = SimpleNamespace(rollout=rollout, algo=algo, train=SimpleNamespace(agent_func_path=None))

    def generate(self, prompts: list[list[int]], length: int, seed: int) -> tuple[float, int]:
        from openrlhf_prefix.runtime.engine.rollout import RolloutRequest

        self.generator.budget = length
        params = self.generator._sampling_params({"temperature": 1.0, "top_p": 1.0})
        params.ignore_eos = True
        started = time.perf_counter()
        groups = [
            (
                0,
                [RolloutRequest(str(n), k, "5", prompt, [], 0.0, seed + n * ROWS + k, length) for k in range(ROWS)],
                params,
            )
            for n, prompt in enumerate(prompts)
        ]
        pending, rows = self.engines.submit(groups, PROMPT + length), []
        while pending:
            ready, pending = self.engines.wait(pending, 1, 10.0)
            for answer in ready:
                for one in self.engines.get(answer):
                    rows.append(self.generator._process_response_into_experience(one, max_len=PROMPT + length))
        return time.perf_counter() - started, sum(int(row.action_mask.sum()) for row in rows)


def start_ray() -> None:
    """Ray with the workers' environment of a run."""
    chosen = adapter.choose()
    chosen.install()
    one = SimpleNamespace(num_engines=1, tensor_parallel_size=1, num_nodes=1, num_gpus_per_node=1)
    run = SimpleNamespace(verbose=False, phase_seconds=3600.0)
    variables = launch.worker_environment(SimpleNamespace(run=run, vllm=one, actor=one), chosen)
    environment = {"env_vars": variables | {"VLLM_LOGGING_LEVEL": "ERROR"}, **chosen.runtime_env()}
    quiet = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
    ray.init(address="local", num_gpus=2, num_cpus=6, runtime_env=environment, **quiet)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", nargs="+", type=int, default=LENGTHS)
    parser.add_argument("--pairs", type=int, default=PAIRS)
    arguments = parser.parse_args()
    start_ray()
    with tempfile.TemporaryDirectory() as folder:
        make_model(Path(folder))
        generator = torch.Generator().manual_seed(0)
        prompts = torch.randint(3, 20, (GROUPS, PROMPT), generator=generator).tolist()
        ours, offline = Ours(folder), Offline.remote(folder)
        print("| rows | offline | ours | ours over offline, tokens a second | more a row |")
        print("| --- | --- | --- | --- | --- |")
        for length in arguments.lengths:
            print(row(ours, offline, prompts, length, arguments.pairs), flush=True)
        ray.get(ours.engine.shutdown.remote())
    ray.shutdown()


def row(ours: Ours, offline: Any, prompts: list[list[int]], length: int, pairs: int) -> str:
    """Medians; the ratio is that of pairs. The first pair is not counted."""
    found = []
    for number in range(pairs + 1):
        seed = 1 + number * len(prompts) * ROWS
        theirs = ray.get(offline.generate.remote(prompts, length, seed))
        own = ours.generate(prompts, length, seed)
        assert theirs[1] == own[1] == len(prompts) * ROWS * length
        found.append((theirs[0], own[0]))
    theirs, own, ratio = (
        statistics.median(values) for values in zip(*((a, b, a / b) for a, b in found[1:]), strict=True)
    )
    rows = len(prompts) * ROWS
    more = 1000 * (own - theirs) / rows
    return f"| {rows} x {length} tokens | {theirs:.2f} s | {own:.2f} s | {ratio:.2f} | {more:.1f} ms |"


if __name__ == "__main__":
    main()
