"""What a run is, apart from its flags: about.json, for whoever reads the run folder on another machine."""

import os
import platform
from collections import Counter
from typing import Any

import ray

import openrlhf_prefix
from openrlhf_prefix import pins
from openrlhf_prefix.runtime.platform import adapter

ACCELERATOR = "accelerator_type:"  # Ray's resource that names a node's GPU


def about(steps: int, problems: int, held_out: int) -> dict[str, Any]:
    """Global steps of the whole run, problems, hardware and versions."""
    nodes = [node for node in ray.nodes() if node["Alive"]]
    real = adapter.current().name == "cuda"
    versions = [f"openrlhf_prefix {openrlhf_prefix.__version__}", f"python {platform.python_version()}"]
    return {
        "steps": steps,
        "problems": problems,
        "held_out": held_out,
        "hardware": hardware([node["Resources"] for node in nodes], real),
        "versions": ", ".join([*versions, *(f"{package.name} {package.found}" for package in pins.installed())]),
    }


def hardware(nodes: list[dict[str, float]], real: bool) -> str:
    """In words, from Ray's resources of each node; where GPUs are not `real`, Ray's are logical.

    Example: "2 nodes, 16 x H200"
    """
    where = f"{len(nodes)} node" + "s" * (len(nodes) != 1)
    if not real:
        return f"{where}, {os.cpu_count()} CPU cores, no GPU"
    gpus: Counter[str] = Counter()
    for resources in nodes:
        kind = next((name.removeprefix(ACCELERATOR) for name in resources if name.startswith(ACCELERATOR)), "GPU")
        gpus[kind] += int(resources.get("GPU", 0))
    return ", ".join([where, *(f"{count} x {kind}" for kind, count in gpus.items() if count)])
