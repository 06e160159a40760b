"""TensorBoard and wandb get what the run folder gets, up to the evaluation behind the last step."""

import ast
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("openrlhf")

from openrlhf.utils.logging_utils import TensorboardLogger, WandbLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from openrlhf_prefix.runtime import controller
from openrlhf_prefix.runtime.controller.trackers import SHOWN, Trackers, markdown
from openrlhf_prefix.settings.config import nested


class Wandb:
    """The module `wandb` as OpenRLHF's logger uses it: refuses, as the real one does, what comes after finish()."""

    def __init__(self) -> None:
        self.logged: list[dict[str, Any]] = []
        self.axes: dict[str, str | None] = {}
        self.api, self.finished = SimpleNamespace(api_key="key"), False
        self.Table = lambda columns, data=(): SimpleNamespace(columns=columns, data=list(data))

    def init(self, **settings: Any) -> None:
        """A run begins."""

    def define_metric(self, name: str, step_metric: str | None = None, step_sync: bool = False) -> None:
        self.axes[name] = step_metric

    def log(self, row: dict[str, Any]) -> None:
        assert not self.finished, "You must call wandb.init() before wandb.log()"
        self.logged.append(row)

    def finish(self) -> None:
        self.finished = True


@pytest.fixture
def wandb(monkeypatch) -> Wandb:
    module = Wandb()
    monkeypatch.setitem(sys.modules, "wandb", module)
    return module


def trackers(folder: Path | None, wandb: bool) -> Trackers:
    names = {"logger.tensorboard_dir": str(folder), "logger.wandb.run_name": "run", "logger.wandb.key": "env"}
    args = nested(names | {f"logger.wandb.{name}": None for name in ("org", "project", "group")})
    return Trackers(WandbLogger(args) if wandb else None, TensorboardLogger(args) if folder else None)


def row(slot: int, prefix_length: int, **more: Any) -> dict[str, Any]:
    told = {"group": 4, "slot": slot, "prefix_length": prefix_length, "problem": "chains-7", "answer": "5"}
    texts = {"prompt": "6-5+4", "prefix": "6" * prefix_length, "continuation": f"row {slot}"}
    return {**told, **texts, "reward": 1.0, "advantage": 0.25, **more}


def test_tensorboard_has_steps_saves_and_evaluations(tmp_path: Path) -> None:
    logs = trackers(tmp_path, wandb=False)
    logs.log_train(1, {"reward/plain": 0.5, "timing/step_total": 2.0})
    logs.log_train(1, {"checkpoint/bytes": 1e6})
    logs.close()  # the end of upstream's loop
    logs.log_eval(2, {"eval_chains_pass1": 0.75, "eval_truncated_rate": 0.0})
    logs.finish()
    found = EventAccumulator(str(tmp_path / "run")).Reload()
    scalars = {name: [(event.step, event.value) for event in found.Scalars(name)] for name in found.Tags()["scalars"]}
    assert scalars == {
        "train/reward/plain": [(1, 0.5)],
        "train/timing/step_total": [(1, 2.0)],
        "train/checkpoint/bytes": [(1, 1e6)],
        "eval/eval_chains_pass1": [(2, 0.75)],
        "eval/eval_truncated_rate": [(2, 0.0)],
    }


def test_wandb_has_the_same_over_its_own_axes(wandb: Wandb) -> None:
    logs = trackers(None, wandb=True)
    logs.log_train(1, {"reward/plain": 0.5})
    logs.close()
    logs.log_eval(2, {"eval_chains_pass1": 0.75})
    logs.finish()
    assert wandb.logged == [
        {"train/reward/plain": 0.5, "train/global_step": 1},
        {"eval/eval_chains_pass1": 0.75, "eval/global_step": 2},
    ]
    assert wandb.axes["train/*"] == "train/global_step" and wandb.axes["eval/*"] == "eval/global_step"
    assert wandb.finished


def test_samples_are_two_plain_and_two_prefixed_rows_of_one_group(wandb: Wandb, tmp_path: Path) -> None:
    logs = trackers(tmp_path, wandb=True)
    group = [row(slot, prefix_length=3 * (slot in (4, 5, 6))) for slot in range(7)]
    logs.log_samples(3, [*group, row(0, 0, group=5)])
    logs.log_samples(4, [])  # of a run that logs no group
    logs.finish()
    (logged,) = wandb.logged
    assert logged["train/global_step"] == 3 and logged["samples"].columns == list(SHOWN)
    assert [line[SHOWN.index("continuation")] for line in logged["samples"].data] == [
        "row 0",
        "row 1",
        "row 4",
        "row 5",
    ]
    assert logged["samples"].data[2] == [3, "chains-7", "6-5+4", "666", "row 4", "5", 1.0, 0.25]
    found = EventAccumulator(str(tmp_path / "run")).Reload()
    (event,) = found.Tensors("samples/text_summary")
    assert event.step == 3 and b"row 5" in event.tensor_proto.string_val[0]


def test_what_a_model_writes_stays_text_in_a_table_of_markdown() -> None:
    text = markdown([[1, "p", "a|b\n# c", "<script>", "![x](http://e)", "*", 0.5, 1 / 3]])
    (line,) = text.splitlines()[2:]
    cells = line.split(" | ")
    assert len(cells) == len(SHOWN) and not set("<>`*![]") & set(line.replace("<br>", "").replace("!", ""))
    assert cells[2] == "a&#124;b<br>&#35; c" and cells[-1] == "0.3333 |"


def test_the_trainer_logs_nothing_past_them() -> None:
    """Whatever is appended to metrics.jsonl has a call of the trackers beside it, or goes on to upstream's logging."""
    folder = Path(controller.__file__).parent
    for name in ("trainer.py", "evaluating.py", "resumable.py"):
        tree = ast.parse((folder / name).read_text())
        functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
        writing = [text for node in functions if 'append("metrics"' in (text := ast.unparse(node).replace("'", '"'))]
        assert len(writing) == 1
        assert all(
            "self.trackers.log_" in text or "super().save_logs_and_checkpoints(global_step, metrics" in text
            for text in writing
        )
