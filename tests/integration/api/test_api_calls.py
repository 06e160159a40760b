"""The settings of a call reach the verb as those of a command line would."""

from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("openrlhf")

from openrlhf_prefix.api import calls
from openrlhf_prefix.api.folders import Run
from openrlhf_prefix.errors import UserError
from openrlhf_prefix.report.run_folder import RunFolder
from openrlhf_prefix.runtime.evaluate.command import parser
from openrlhf_prefix.settings.resolve import resolve

ROOT = Path(__file__).parents[3]
QUICKSTART = ROOT / "configs" / "quickstart.yaml"


def flat(*words: str) -> dict[str, Any]:
    """The flags of a command line, but for one whose default is the minute of the day."""
    return {k: v for k, v in resolve(words, files=False).flat.items() if k != "logger.wandb.run_name"}


@pytest.fixture
def asked(monkeypatch, tmp_path: Path) -> dict[str, Any]:
    """What the child would be asked: its words, and for a training the flags that they resolve to."""
    found: dict[str, Any] = {}
    RunFolder(tmp_path).append("metrics", [{"step": 1}])
    (tmp_path / "results.jsonl").touch()

    def call(verb: str, words: list[str]) -> str:
        found["words"] = words
        if verb != "evaluate":
            found["file"] = yaml.safe_load(Path(words[1]).read_text())
        if verb == "train":
            found["flat"] = flat(*words)
        return str(tmp_path)

    monkeypatch.setattr(calls, "call", call)
    monkeypatch.chdir(ROOT)
    return found


COMMAND_LINE = ["--actor.adam.lr", "1e-5", "--run.dir", "/tmp/x", "--vllm.enforce_eager", "false"]
FLAGS = {"actor.adam.lr": 1e-5, "run.dir": Path("/tmp/x"), "vllm.enforce_eager": False}


@pytest.mark.parametrize(
    "settings",
    [
        {"flags": FLAGS},
        FLAGS,  # unpacked: **{"actor.adam.lr": ...}
        {"actor": {"adam": {"lr": "1e-5"}}, "run": {"dir": "/tmp/x"}, "flags": {"vllm": {"enforce_eager": False}}},
        {
            "flags": {"actor.adam.lr": 1.0, "run.dir": Path("/tmp/x"), "vllm.enforce_eager": False},
            "actor.adam.lr": 1e-5,
        },
    ],
)
def test_every_way_to_write_a_flag_is_the_command_lines(asked, settings) -> None:
    run = calls.train("configs/quickstart.yaml", **settings)
    same = flat("--config", str(QUICKSTART), *COMMAND_LINE)
    assert isinstance(run, Run) and asked["flat"] == same


def test_a_mapping_is_a_config_and_none_takes_a_flag_back(asked) -> None:
    """adam.lr goes back to its default by None; the file would have set 2e-4."""
    calls.train(yaml.safe_load(QUICKSTART.read_text()), flags={"actor.adam.lr": None, "run.dir": "/tmp/x"})
    default = flat("--config", str(QUICKSTART), "--run.dir", "/tmp/x")
    differing = {name for name, value in asked["flat"].items() if value != default[name]}
    assert differing == {"actor.adam.lr"} and asked["flat"]["actor.adam.lr"] == 1e-6


@pytest.mark.parametrize("config", ["configs/quickstart.yaml", "configs/qwen3_8b_base/prefix_rft.yaml"])
def test_a_run_is_named_after_its_file_as_on_the_command_line(asked, config: str) -> None:
    calls.train(config, flags={"actor.model_name_or_path": "x", "data.prompt_dataset": "y", "eval.dataset": None})
    name = Path(asked["flat"]["run.dir"]).name
    same = Path(flat("--config", config, "--eval.dataset", "")["run.dir"]).name
    assert name[: -len("20260101-000000")] == same[: -len("20260101-000000")] and "prefix_rft-20" in name


def test_settings_that_are_none_are_refused() -> None:
    with pytest.raises(UserError, match="settings are numbers, texts"):
        calls.train({"actor.adam.lr": object()})
    with pytest.raises(UserError, match="actor.adam.lr is given twice"):
        calls.train({"actor": {"adam": {"lr": 1}}, "actor.adam.lr": 1})


def test_the_file_is_for_nobody_else_and_does_not_stay(monkeypatch) -> None:
    """It may hold a key."""
    seen: list[Path] = []

    def call(verb: str, words: list[str]) -> None:
        seen.append(Path(words[1]))
        assert seen[0].parents[0].stat().st_mode & 0o077 == 0
        raise UserError("enough")

    monkeypatch.setattr(calls, "call", call)
    with pytest.raises(UserError, match="enough"):
        calls.train({"logger.wandb.key": "secret"})
    assert not seen[0].exists()


def test_an_evaluation_is_asked_with_the_verbs_own_options(asked, tmp_path: Path) -> None:
    (tmp_path / "export").mkdir()
    options = {"samples": 2, "k": [1, 2], "resume": True, "no_chat_template": False, "json": None, "max_samples": 8}
    calls.evaluate(Run(tmp_path), "a.jsonl", Path("b.jsonl"), against="base", output=tmp_path / "out", **options)
    words = [str(tmp_path / "export"), "a.jsonl", "b.jsonl", "--against", "base", "--output", str(tmp_path / "out")]
    assert vars(parser().parse_args(asked["words"])) == vars(
        parser().parse_args([*words, "--samples", "2", "--k", "1", "2", "--resume", "--max_samples", "8"])
    )


def test_a_comparison_is_a_file_or_settings_with_a_folder(asked, tmp_path: Path) -> None:
    plan = {"train": "x.yaml", "seeds": [1, 2, 3]}
    compared = calls.compare(plan, folder=tmp_path, jobs=2)
    assert asked["file"] == plan and asked["words"][2:] == ["--folder", str(tmp_path), "--jobs", "2"]
    assert compared.folder == tmp_path
    calls.compare("configs/compare.yaml")
    assert asked["words"] == ["--config", str(ROOT / "configs/compare.yaml"), "--jobs", "1"]
    with pytest.raises(UserError, match="give its folder"):
        calls.compare(plan)
