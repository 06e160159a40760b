"""Whole steps of plain OpenRLHF and of ours: same machine, data, rewards, sizes and sampled tokens, in turn.

    python benchmarks/step.py --size 15m --preset prefix_rft --pairs 3

Prints the rows of docs/performance.md: seconds by phase of plain OpenRLHF (preset rft's rows, its own classes) and of
ours, the ratio of each, and the learner's peak memory. A response of a random model has all of its budget; a row that
starts from a prefix samples less, and so seconds are given for the tokens that plain OpenRLHF samples.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import psutil

from openrlhf_prefix.data import tiny_tokenizer
from openrlhf_prefix.data.chains import INSTRUCTION

# hidden size, layers, vocabulary
SIZES = {"tiny": (96, 4, 256), "15m": (192, 4, 32_000), "45m": (256, 4, 152_000)}
WARM_UP = 2  # steps that are not counted
PHASES = ("generation", "make_experience", "ppo_train", "broadcast", "step_total")
REWARD = '''"""Right or wrong by chance: groups with both, at no cost."""

import random

import torch


def reward_func(queries, prompts, labels, **kwargs):
    rewards = torch.tensor([float(random.random() < 0.5) for _ in queries])
    return {"rewards": rewards, "scores": rewards, "extra_logs": {}}
'''


def make_inputs(folder: Path, options: argparse.Namespace) -> None:
    """A random model, problems with demonstrations as long as a response, and a reward file."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    hidden, layers, vocabulary = SIZES[options.size]
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = tiny_tokenizer.make_tokenizer(INSTRUCTION)
    heads = {"num_attention_heads": hidden // 32, "num_key_value_heads": hidden // 64}
    shape = {"hidden_size": hidden, "intermediate_size": 4 * hidden, "num_hidden_layers": layers}
    model = Qwen2ForCausalLM(
        Qwen2Config(vocab_size=vocabulary, max_position_embeddings=2048, tie_word_embeddings=True, **shape, **heads)
    )
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    (folder / "reward.py").write_text(REWARD, encoding="utf-8")
    with (folder / "data.jsonl").open("w", encoding="utf-8") as file:
        for number in range(options.problems * (WARM_UP + options.steps)):
            steps = "".join(f"{number + term}+{term}={number + 2 * term}\n" for term in range(options.tokens // 10))
            row = {"prompt": f"{number}+{number}=", "answer": "0", "demonstrations": [steps + "\\boxed{0}"]}
            file.write(json.dumps(row) + "\n")


def flags(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Those that plain OpenRLHF and ours share."""
    rows = options.problems * 8
    return {
        "actor.model_name_or_path": str(folder / "model"),
        "actor.num_gpus_per_node": options.ranks,
        "actor.adam.lr": 1e-6,
        "ref.num_gpus_per_node": options.ranks,
        "reward.num_gpus_per_node": options.ranks,
        "reward.remote_url": str(folder / "reward.py"),
        "algo.kl.init_coef": 0.0,
        "algo.advantage.estimator": "dr_grpo",
        "data.prompt_dataset": str(folder / "data.jsonl"),
        "data.max_len": 64 + options.tokens,
        "data.max_samples": options.problems * (WARM_UP + options.steps),
        "rollout.batch_size": options.problems,
        "rollout.n_samples_per_prompt": 8,
        "rollout.micro_batch_size": 8,
        "rollout.max_new_tokens": options.tokens,
        "train.batch_size": rows,
        "train.micro_batch_size": 8,
        "train.colocate_all": True,
        "ds.zero_stage": 2,
        "vllm.num_engines": options.ranks,
        "vllm.gpu_memory_utilization": 0.3,
        "vllm.enforce_eager": True,
        "ckpt.save_steps": -1,
        "ckpt.output_dir": str(folder / "export"),
        "ckpt.path": str(folder / "checkpoints"),
    }


class Peak(threading.Thread):
    """Largest resident memory of the learner's process among the children of this one, in MB."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.megabytes, self.done = 0.0, threading.Event()

    def run(self) -> None:
        while not self.done.wait(0.3):
            for process in psutil.Process().children(recursive=True):
                try:
                    if "PolicyModelActor" in " ".join(process.cmdline()):
                        self.megabytes = max(self.megabytes, process.memory_info().rss / 1e6)
                except psutil.Error:
                    continue  # it ended meanwhile


def run(command: list[str], log: Path) -> float:
    """Runs one side to its end; returns the learner's peak memory."""
    peak = Peak()
    peak.start()
    with log.open("w", encoding="utf-8") as file:
        found = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, timeout=3600, check=False)
    peak.done.set()
    if found.returncode:
        sys.exit(f"{' '.join(command[:4])} failed:\n{log.read_text(encoding='utf-8')[-3000:]}")
    return peak.megabytes


def plain(folder: Path, options: argparse.Namespace, number: int) -> dict[str, float]:
    times = folder / f"plain{number}.jsonl"
    shared = flags(folder, options)
    shared |= {"data.input_key": "prompt", "data.label_key": "answer", "ckpt.disable_ds": True}
    script = str(Path(__file__).with_name("plain_openrlhf.py"))
    peak = run([sys.executable, script, str(times), json.dumps(shared)], folder / f"plain{number}.log")
    sampled = options.problems * 8 * options.tokens
    return medians(times) | {"tokens": float(sampled), "memory": peak}


def ours(folder: Path, options: argparse.Namespace, number: int) -> dict[str, float]:
    place = folder / f"ours{number}"
    shared = flags(folder, options) | {"hybrid.preset": options.preset, "run.dir": str(place)}
    del shared["algo.advantage.estimator"]
    words = [
        word
        for name, value in shared.items()
        if value is not False
        for word in ([f"--{name}"] if value is True else [f"--{name}", str(value)])
    ]
    command = [sys.executable, "-m", "openrlhf_prefix.cli", "train", *words, *options.flags]
    peak = run(command, folder / f"ours{number}.log")
    found = medians(place / "metrics.jsonl")
    return found | {"tokens": found["rollout/tokens_generated"], "memory": peak}


def medians(path: Path) -> dict[str, float]:
    """Of every number over the counted steps."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    rows = [row for row in rows if row["step"] > WARM_UP and "timing/step_total" in row]
    names = set.intersection(*(set(row) for row in rows))
    return {name: statistics.median(row[name] for row in rows) for name in names}


def table(pairs: list[tuple[dict[str, float], dict[str, float]]], options: argparse.Namespace) -> str:
    """Seconds a step of both sides, and the median, least and largest ratio of the pairs."""
    lines = [
        f"| {options.size}, {options.preset} | plain | ours | ratio (of {len(pairs)} pairs) |",
        "| --- " * 4 + "|",
    ]

    def line(name: str, key: str, unit: str) -> None:
        theirs, own = (statistics.median(pair[side][key] for pair in pairs) for side in (0, 1))
        ratios = sorted(pair[1][key] / pair[0][key] for pair in pairs)
        spread = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} - {ratios[-1]:.2f})"
        lines.append(f"| {name} | {theirs:.2f} {unit} | {own:.2f} {unit} | {spread} |")

    for pair in pairs:
        for side in pair:
            side["learner"] = side["timing/make_experience"] + side["timing/ppo_train"]
            side["rate"] = side["timing/step_total"] / side["tokens"] * pairs[0][0]["tokens"]
    for phase in PHASES:
        line(phase, f"timing/{phase}", "s")
    line("learner: make_experience + ppo_train", "learner", "s")
    line("step_total at plain's sampled tokens", "rate", "s")
    line("learner's peak memory", "memory", "MB")
    return "\n".join(lines)


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Times whole steps of a random model.")
    parser.add_argument("--size", choices=list(SIZES), default="15m")
    parser.add_argument("--preset", default="prefix_rft")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--steps", type=int, default=4, help="counted ones of a run")
    parser.add_argument("--problems", type=int, default=4, help="of a step, 8 rows each")
    parser.add_argument("--tokens", type=int, default=48, help="of a response")
    parser.add_argument("--ranks", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="keeps models, logs and metrics there")
    parser.add_argument("flags", nargs="*", help="further flags of ours, after --")
    return parser


def main() -> None:
    options = arguments().parse_args()
    folder = (options.folder or Path(tempfile.mkdtemp())).absolute()
    make_inputs(folder, options)
    pairs = []
    for number in range(options.pairs):
        sides = (plain, ours) if number % 2 == 0 else (ours, plain)
        found = {side: side(folder, options, number) for side in sides}
        pairs.append((found[plain], found[ours]))
        print(f"pair {number + 1} of {options.pairs} done", file=sys.stderr, flush=True)
    print(table(pairs, options))


if __name__ == "__main__":
    main()
