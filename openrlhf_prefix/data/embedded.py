"""The embedded default: the chain task and its tiny base model in one folder, made once and cached."""

from pathlib import Path

from openrlhf_prefix.data.chains import write_task
from openrlhf_prefix.data.tiny_model import make_model


def make(directory: str | Path) -> None:
    """Writes `directory`/task and `directory`/model; a second call finds both and returns at once."""
    root = Path(directory)
    write_task(root / "task")
    make_model(root / "model", root / "task")
    print(f"embedded task and model: {root}")
