"""What a run shows and leaves behind: lines with the numbers in them, and a folder that is never written over."""

from pathlib import Path

import pytest

from openrlhf_prefix.errors import UserError
from openrlhf_prefix.report.lines import eval_line, given_away, step_line, summary_table
from openrlhf_prefix.report.run_folder import RunFolder

STEP = {
    "reward": 0.384,
    "reward/plain": 0.314,
    "reward/prefixed": 0.876,
    "prefix/rows": 16,
    "prefix/low": 0.841,
    "prefix/high": 0.95,
    "prefix/ratio": 0.9,
    "prefix/kept": 0.2,
    "rollout/response_length_mean": 31.2,
    "rollout/entropy": 0.81,
    "actor_grad_norm": 0.52,
    "timing/generation": 1.24,
    "timing/make_experience": 0.3,
    "timing/ppo_train": 0.9,
    "timing/broadcast": 0.1,
}


def test_a_supervised_step_has_a_line_of_its_own() -> None:
    metrics = {"sft/rows": 128.0, "imitation_loss": 0.834, "actor_grad_norm": 0.5, "timing/step_total": 1.26}
    assert step_line(2, 20, metrics) == "step 2/20 | supervised loss 0.83 | grad 0.50 | train 1.3s"
    validated = step_line(2, 20, metrics | {"sft/validation_loss": 0.9})
    assert validated == "step 2/20 | supervised loss 0.83 held-out 0.90 | grad 0.50 | train 1.3s"


def test_a_step_is_one_line_with_its_numbers() -> None:
    assert step_line(3, 20, STEP) == (
        "step 3/20 | reward 0.38 plain 0.31 prefixed 0.88 | window 0.84-0.95 ratio 0.90 kept 0.20 | length 31 | "
        "entropy 0.81 | grad 0.52 | gen 1.2s logp 0.3s train 0.9s sync 0.1s"
    )


@pytest.mark.parametrize("rows", [{"prefix/rows": 0}, {}])
def test_a_step_without_prefixed_rows_says_nothing_about_them(rows: dict) -> None:
    metrics = {key: value for key, value in STEP.items() if key != "prefix/rows"} | rows
    line = step_line(1, 2, metrics)
    assert "prefixed" not in line and "window" not in line and "reward 0.38 plain 0.31 | length 31" in line


def test_a_number_that_is_missing_is_a_dash_and_a_zero_is_a_number() -> None:
    line = step_line(1, 2, {"reward/plain": 0.0})
    assert "reward - plain 0.00 |" in line and "grad - |" in line and "gen -s" in line


@pytest.mark.parametrize("metrics", [{}, {"prefix/solves_alone": None}, {"prefix/solves_alone": 0.01}])
def test_up_to_one_percent_of_prefixes_may_be_right_by_themselves(metrics: dict) -> None:
    assert given_away(metrics | {"prefix/rows": 100.0}) is None


def test_more_of_them_are_counted_with_the_mend() -> None:
    said = given_away({"prefix/solves_alone": 3 / 64, "prefix/rows": 64.0})
    assert said is not None and said.startswith("warning: 3 of 64 prefixes earn the reward by themselves")
    assert "--prefix.stop_before_answer true" in said


def test_an_evaluation_is_one_line_of_percentages() -> None:
    """0.125 is 12.5 %; what is no accuracy (a length, a time) is left out."""
    metrics = {"eval_chains_pass1": 0.125, "eval_chains_pass4": 0.5, "eval_truncated_rate": 0.9}
    line = "held-out at step 7 | chains_pass1 12.5% | chains_pass4 50.0%"
    assert eval_line(7, metrics) == line
    assert eval_line(7, metrics, 3, 128) == f"{line} | without 3 of 128 samples, whose rewards failed"


def test_a_step_shows_its_pace() -> None:
    """1,500 tokens in 2 s; 17 more steps of 2 s are 34 s."""
    line = step_line(3, 20, STEP | {"timing/step_total": 2.0, "rollout/tokens_generated": 3000.0})
    assert line.endswith("sync 0.1s | 1,500 tokens/s | left 0:00:34")


def test_the_summary_sets_the_trained_model_against_the_base() -> None:
    """0.40 -> 0.65 is +25.0 points; an interval around 0 is noise; a metric without base has no gain."""
    table = summary_table(
        {
            "base": {"pass1": 0.40, "pass4": 0.8},
            "trained": {"pass1": 0.65, "pass4": 0.7, "new": 0.5},
            "gains": {"pass1": (0.25, 0.2, 0.3), "pass4": [-0.1, -0.21, 0.005]},
            "steps": 20,
            "seconds": 123.4,
            "this_start": {"steps": 20, "seconds": 123.4},
            "paths": {"export": "/runs/a/export"},
        }
    )
    rows = [line.split() for line in table.splitlines()]
    assert ["pass1", "40.0%", "65.0%", "+25.0", "[+20.0,", "+30.0]"] in rows
    assert ["pass4", "80.0%", "70.0%", "-10.0", "[-21.0,", "+0.5]", "within", "noise"] in rows
    assert ["new", "-", "50.0%", "-"] in rows
    assert ["20", "steps", "in", "123", "s"] in rows and ["export:", "/runs/a/export"] in rows
    assert len({line.index(end) for line, end in zip(table.splitlines()[1:3], ("   [+", "   [-"), strict=True)}) == 1


def test_the_summary_of_a_resumed_run_says_what_this_start_did() -> None:
    both = {"steps": 20, "seconds": 500.0, "this_start": {"steps": 8, "seconds": 180.0}}
    table = summary_table({"base": {}, "trained": {}, "gains": {}, "paths": {}, **both})
    assert table.splitlines()[-1] == "20 steps in 500 s, of them 8 in 180 s since this start"


def test_a_new_folder_is_made_with_its_parents(tmp_path: Path) -> None:
    RunFolder(tmp_path / "runs" / "a").claim(resume=False)
    assert (tmp_path / "runs" / "a").is_dir()


@pytest.mark.parametrize("entry", ["metrics.jsonl", "summary.json", "notes.txt"])
def test_a_folder_in_use_is_refused_and_resumed_only_on_request(tmp_path: Path, entry: str) -> None:
    (tmp_path / entry).write_text("kept")
    with pytest.raises(UserError, match="already holds a run.*--run.dir.*--ckpt.load_enable"):
        RunFolder(tmp_path).claim(resume=False)
    RunFolder(tmp_path).claim(resume=True)
    assert (tmp_path / entry).read_text() == "kept"


def test_a_folder_with_a_config_alone_counts_as_new(tmp_path: Path) -> None:
    """A dry run leaves one."""
    folder = RunFolder(tmp_path)
    assert folder.write_config("actor.name: x\n").read_text() == "actor.name: x\n"
    folder.claim(resume=False)


def test_rows_are_appended_and_read_back_in_order(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    rows = [{"step": 1, "text": "a\nb"}, {"step": 2, "text": "\u00e9"}, {"step": 3, "value": 0.5}]
    assert folder.read("metrics") == []
    folder.append("metrics", rows[:2])
    folder.append("metrics", rows[2:])
    assert folder.read("metrics") == rows
    assert len((tmp_path / "metrics.jsonl").read_text(encoding="utf-8").split("\n")) == 4


def test_a_rewind_drops_what_came_after_the_checkpoint_in_both_files(tmp_path: Path) -> None:
    """Step 2 is the checkpoint's: its evaluation and its step line stay, step 3 goes."""
    folder = RunFolder(tmp_path)
    rows = [{"step": 0, "eval": 1}, {"step": 1}, {"step": 2}, {"step": 2, "eval": 1}, {"step": 3}]
    for name in ("metrics", "rollouts"):
        folder.append(name, rows)
    folder.rewind(2)
    assert folder.read("metrics") == folder.read("rollouts") == rows[:4]


def test_a_rewind_to_before_the_evaluation_of_a_step_drops_it(tmp_path: Path) -> None:
    """A regular checkpoint of step 2 is older than the evaluation of step 2; that of step 1 stays."""
    folder = RunFolder(tmp_path)
    rows = [{"step": 1, "eval_a_pass1": 0.5}, {"step": 2, "policy_loss": 0.1}, {"step": 2, "eval_a_pass1": 0.6}]
    folder.append("metrics", rows)
    folder.rewind(2, evaluated=False)
    assert folder.read("metrics") == rows[:2]


def test_a_start_at_step_0_keeps_the_records_of_the_start_before_it(tmp_path: Path) -> None:
    """Twice: whatever a run writes from its beginning is moved as it is, and nothing else."""
    folder = RunFolder(tmp_path)
    for start in (1, 2):
        for name in ("metrics", "rollouts", "reward_failures"):
            folder.append(name, [{"step": 1, "start": start}])
        folder.write_summary({"start": start})
        for name in ("export", "tensorboard", "checkpoints"):
            (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / "export" / "model.safetensors").write_bytes(bytes([start]))
        folder.write_config("actor.name: x\n")
        assert folder.set_aside() == [tmp_path / f"before_{start}"]
        kept = RunFolder(tmp_path / f"before_{start}")
        for name in ("metrics", "rollouts", "reward_failures"):
            assert kept.read(name) == [{"step": 1, "start": start}] and folder.read(name) == []
        assert kept.summary() == {"start": start}
        assert (kept.path / "export" / "model.safetensors").read_bytes() == bytes([start])
        assert (kept.path / "tensorboard").is_dir()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["before_1", "before_2", "checkpoints", "config.yaml"]
    assert folder.set_aside() == []


def test_what_a_killed_rewind_left_behind_does_no_harm(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.append("metrics", [{"step": 1}, {"step": 2}])
    (tmp_path / ".metrics.kept.jsonl").write_text('{"step": 1}\n{"st')
    folder.rewind(1)
    assert folder.read("metrics") == [{"step": 1}]
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_a_rewind_drops_a_line_that_was_half_written(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.append("metrics", [{"step": 1}, {"step": 2}])
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2, "rew')
    folder.rewind(5)
    folder.append("metrics", [{"step": 3}])
    assert [row["step"] for row in folder.read("metrics")] == [1, 2, 3]


def test_a_rewind_of_a_folder_without_files_makes_none(tmp_path: Path) -> None:
    RunFolder(tmp_path).rewind(3)
    assert list(tmp_path.iterdir()) == []


def test_a_rewind_to_the_start_leaves_empty_files(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.append("rollouts", [{"step": 1}])
    folder.rewind(0)
    assert folder.read("rollouts") == []


def test_a_summary_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    summary = {"base": {"pass1": 0.25}, "trained": {"pass1": 0.5}, "steps": 3, "seconds": 1.5, "paths": {"a": "b"}}
    RunFolder(tmp_path).write_summary(summary)
    assert RunFolder(tmp_path).summary() == summary
