r"""Where the seconds of an optimizer step go: of ours, on one rank, by the kind of work.

    python benchmarks/step_profile.py --size 45m

Prints the rows of docs/performance.md: head products are matrix products with a side of more than 10,000 words, the
flat tensors of ZeRO are those of one dimension and more than a million numbers. Self times of PyTorch's profiler, over
the second step.
"""

import argparse
import collections
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "integration" / "runtime"))

import policy_ranks
import torch
from step import SIZES

from openrlhf_prefix.data import tiny_tokenizer
from openrlhf_prefix.data.chains import INSTRUCTION

WORDS, FLAT = 10_000, 1_000_000
PRODUCTS = ("mm", "bmm", "addmm", "matmul", "baddbmm")
ROWS, PROMPT, LENGTH = 32, 24, 72  # those of step.py


def kind(name: str, shapes: list[list[int]]) -> str:
    """Of the work of an operator."""
    wide = any(len(shape) >= 1 and max(shape) > WORDS and len(shape) > 1 for shape in shapes if shape)
    product = name.removeprefix("aten::") in PRODUCTS
    if wide:
        return "head: products" if product else "head: softmax, labels, copies"
    if product or "attention" in name:
        return "body: products and attention"
    if any(len(shape) == 1 and shape[0] > FLAT for shape in shapes if shape):
        return "flat tensors: Adam, norm, clipping, copies"
    return "rest: small operators, Python"


def measure(folder: Path) -> None:
    """On the only rank: two steps, the second one profiled."""
    policy_ranks.ROWS, policy_ranks.PROMPT, policy_ranks.LENGTH = ROWS, PROMPT, LENGTH
    given = {"train.batch_size": ROWS, "train.micro_batch_size": 8, "rollout.max_new_tokens": LENGTH - PROMPT}
    policy = policy_ranks.make_policy(folder / "source", folder / "run", **{"ds.zero_stage": 2}, **given)
    policy_ranks.train(policy, seed=1)
    fit, spent = policy.fit, collections.Counter()

    def profiled(kl: float) -> dict:
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], record_shapes=True) as profile:
            status = fit(kl)
        for event in profile.key_averages(group_by_input_shape=True):
            spent[kind(event.key, event.input_shapes)] += event.self_cpu_time_total / 1e6
        return status

    policy.fit = profiled
    policy_ranks.train(policy, seed=2)
    torch.save(dict(spent), folder / "spent.pt")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=list(SIZES), default="45m")
    options = parser.parse_args()
    from transformers import Qwen2Config, Qwen2ForCausalLM

    hidden, layers, words = SIZES[options.size]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sizes = {"hidden_size": hidden, "intermediate_size": 4 * hidden, "num_hidden_layers": layers}
        heads = {"num_attention_heads": hidden // 32, "num_key_value_heads": hidden // 32}
        config = Qwen2Config(vocab_size=words, max_position_embeddings=128, **sizes, **heads)
        Qwen2ForCausalLM(config).to(torch.bfloat16).save_pretrained(folder / "source")
        tiny_tokenizer.make_tokenizer(INSTRUCTION).save_pretrained(folder / "source")
        policy_ranks.run_ranks(1, measure, folder)
        spent = torch.load(folder / "spent.pt")
    print("| work | seconds | share |\n| --- | --- | --- |")
    for name, seconds in sorted(spent.items(), key=lambda item: -item[1]):
        print(f"| {name} | {seconds:.2f} | {seconds / sum(spent.values()):.0%} |")


if __name__ == "__main__":
    main()
