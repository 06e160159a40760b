r"""Seconds and bytes of a checkpoint of a model of some size, on one rank with ZeRO-3 and no engines.

    python benchmarks/save_time.py --hidden 768 --layers 12

Prints the row of docs/80-reliability.md: DeepSpeed's own save beside ours (which adds fsync, SHA-256 of every byte,
manifest and rename), how much of ours the step waits for, and how long the driver of a resume reads and compares it.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "integration" / "runtime"))

import torch
from policy_ranks import make_policy, run_ranks, train

from openrlhf_prefix.checkpoint import manifest
from openrlhf_prefix.data import tiny_tokenizer
from openrlhf_prefix.data.chains import INSTRUCTION


def measure(folder: Path) -> None:
    """On the only rank: a step, one save of DeepSpeed's and one of ours."""
    policy = make_policy(folder / "source", folder / "run", **{"ds.zero_stage": 3})
    engine, times = policy.actor.model, {}
    train(policy, seed=1)  # the optimizer has states only after a step
    started = time.time()
    engine.save_checkpoint(str(folder / "plain"), tag="plain", save_latest=False)
    os.sync()  # ours ends on the disk
    times["plain"] = time.time() - started
    started = time.time()
    policy.save_checkpoint("global_step1", {})
    times["waited"] = time.time() - started
    policy.saves(wait=True)
    times["ours"] = time.time() - started
    times["parameters"] = sum(parameter.ds_numel for parameter in engine.module.parameters())
    torch.save(times, folder / "times.pt")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hidden", type=int, default=768)
    parser.add_argument("--layers", type=int, default=12)
    options = parser.parse_args()
    from transformers import Qwen2Config, Qwen2ForCausalLM

    with tempfile.TemporaryDirectory() as name:
        folder, tokenizer = Path(name), tiny_tokenizer.make_tokenizer(INSTRUCTION)
        sizes = {"hidden_size": options.hidden, "intermediate_size": 4 * options.hidden}
        heads = {"num_attention_heads": options.hidden // 64, "num_key_value_heads": options.hidden // 64}
        depth = {"num_hidden_layers": options.layers, "vocab_size": 32000, "max_position_embeddings": 64}
        Qwen2ForCausalLM(Qwen2Config(**sizes, **heads, **depth)).to(torch.bfloat16).save_pretrained(folder / "source")
        tokenizer.save_pretrained(folder / "source")
        run_ranks(1, measure, folder)
        times = torch.load(folder / "times.pt")
        saved = folder / "run" / "checkpoints" / "_actor" / "global_step1"
        size = sum(entry["size"] for entry in manifest.read(saved)["files"].values())
        started = time.time()
        manifest.verify(saved)
        compared = time.time() - started
    print(
        f"| {times['parameters'] / 1e6:.1f}M | {size / 1e9:.2f} GB | {times['plain']:.1f} s | {times['ours']:.1f} s | "
        f"{times['waited']:.2f} s | {compared:.1f} s |"
    )


if __name__ == "__main__":
    main()
