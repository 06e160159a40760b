"""A command line that would train if nothing were wrong with it."""

from pathlib import Path
from typing import Any


def flags_of_a_run(model: Path, data: Path, folder: Path) -> dict[str, Any]:
    """Of a model of at least 144 positions, on rows that need a chat template."""
    return {
        "actor.model_name_or_path": model,
        "actor.num_gpus_per_node": 1,
        "data.prompt_dataset": data,
        "data.apply_chat_template": "true",
        "data.max_len": 96,
        "rollout.max_new_tokens": 48,
        "rollout.batch_size": 4,
        "train.batch_size": 32,
        "vllm.num_engines": 1,
        "run.dir": folder,
    }
