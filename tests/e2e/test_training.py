"""One short training on the real stack: what a run does, writes and exports."""

import json
import math
import re

import pytest
from conftest import run
from documented import undocumented
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from openrlhf_prefix.algorithm.schedules import PrefixSchedule
from openrlhf_prefix.report.run_folder import RunFolder


def test_eight_steps_lift_held_out_accuracy(trained):
    """512 samples near 15 % have a standard error of 1.6 points, so that a policy that learns nothing stays well below
    a gain of 8 points."""
    summary = json.loads((trained.folder / "summary.json").read_text())
    assert summary["steps"] == 8
    assert summary["trained"]["eval_chains_pass1"] - summary["base"]["eval_chains_pass1"] > 0.08


def test_every_step_is_measured_and_finite(trained):
    steps = trained.metrics()
    assert [row["step"] for row in steps] == [1, 2, 3, 4, 5, 6, 7, 8]
    for row in steps:
        assert all(math.isfinite(value) for value in row.values() if value is not None)
        assert row["prefix/rows"] == 16  # one of eight rows in each of 16 groups
        assert row["actor_grad_norm"] > 0
        assert sum(value for key, value in row.items() if key.startswith("verifier/")) == 128


def test_every_key_of_the_run_is_explained(trained):
    lines = [json.loads(line) for line in (trained.folder / "metrics.jsonl").read_text().splitlines()]
    keys = {key for line in lines for key in line}
    assert {"eval_chains_pass1", "checkpoint/bytes", "actor_lr"} <= keys
    assert not undocumented(keys)


def test_the_window_follows_the_schedule_of_the_run(trained):
    schedule = PrefixSchedule(total_steps=8)
    for row in trained.metrics():
        low, high = schedule.window(row["step"] - 1)
        assert (row["prefix/low"], row["prefix/high"]) == (low, high)
        assert low - 1e-6 <= row["prefix/ratio"] <= high + 1e-6  # a mean in fp32


def test_ceil_of_a_fifth_of_the_prefix_tokens_is_kept(trained):
    """kept is ceil(0.2 n) / n for n prefix tokens in the batch."""
    for row in trained.metrics():
        tokens = round(row["prefix/length"] * row["prefix/rows"])
        assert row["prefix/kept"] == pytest.approx(math.ceil(0.2 * tokens - 1e-9) / tokens, abs=1e-6)


def test_no_prefix_is_right_by_itself(trained):
    assert [row["prefix/solves_alone"] for row in trained.metrics()] == [0.0] * 8
    assert not any(rollout["prefix_solves_alone"] for rollout in trained.rollouts())


def test_a_prefix_is_the_beginning_of_its_problems_demonstration(trained, embedded):
    rows = {row["id"]: row for row in map(json.loads, (embedded / "task" / "train.jsonl").open())}
    prefixed = [rollout for rollout in trained.rollouts() if rollout["prefix_length"]]
    assert len(prefixed) == 8 * 16
    for rollout in prefixed:
        demonstration = rows[rollout["problem"]]["demonstrations"][0]
        assert rollout["slot"] == 7
        assert demonstration.startswith(rollout["prefix"]) and len(rollout["prefix"]) < len(demonstration)
        assert rollout["continuation"]


def test_advantages_are_rewards_minus_the_mean_of_the_plain_rows(trained):
    groups = {}
    for rollout in trained.rollouts():
        groups.setdefault((rollout["step"], rollout["group"]), []).append(rollout)
    assert len(groups) == 8 * 16
    for rows in groups.values():
        mean = sum(row["reward"] for row in rows[:7]) / 7
        for row in rows:
            assert row["advantage"] == pytest.approx(row["reward"] - mean, abs=1e-5)
        assert rows[7]["prefix_advantage"] == pytest.approx(rows[7]["reward"] - mean, abs=1e-5)


def test_engine_and_actor_agree_on_the_sampled_tokens_after_every_update(trained):
    """bf16 on a CPU; a stale engine would be off by what the updates changed."""
    differences = [row["rollout/log_prob_difference"] for row in trained.metrics()]
    assert len(differences) == 8 and max(differences) < 0.02 and min(differences) > 0


def test_the_first_five_syncs_were_checked(trained):
    checked = [(row.get("sync/tensors_checked"), row.get("sync/tensors_unchecked")) for row in trained.metrics()]
    assert checked == [(51, 0)] * 5 + [(None, None)] * 3


def test_the_prefix_tokens_gradient_is_measured_every_second_time(trained):
    shares = [row.get("prefix/gradient_share") for row in trained.metrics()]
    assert [share is not None for share in shares] == [True, False] * 4
    assert 0.1 < shares[0] < 3.0


def test_the_seconds_of_a_step_are_those_of_its_phases(trained):
    """The comparison of the weights is a part of the sync, and not counted beside it."""
    phases = ("generation", "make_experience", "ppo_train", "broadcast")
    for row in trained.metrics():
        assert row["timing/step_total"] == pytest.approx(sum(row[f"timing/{phase}"] for phase in phases))
        assert 0 <= row.get("sync/check_seconds", 0) < row["timing/broadcast"]


def test_the_terminal_shows_one_line_a_step_and_the_table(trained):
    for step in range(1, 9):
        assert re.search(rf"step {step}/8 \| reward [\d.]+ plain [\d.]+ prefixed [\d.]+ \| window ", trained.output)
    assert "held-out" in trained.output and str(trained.folder / "export") in trained.output


def test_the_export_loads_in_transformers_and_writes_like_the_policy(trained):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, report = AutoModelForCausalLM.from_pretrained(trained.folder / "export", output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    tokenizer = AutoTokenizer.from_pretrained(trained.folder / "export")
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Left to right, modulo 10: 6-5+4-4"}], tokenize=False, add_generation_prompt=True
    )
    inputs = tokenizer(text, return_tensors="pt", add_special_tokens=False)
    output = model.generate(**inputs, max_new_tokens=64, do_sample=False)
    assert output[0, -1] == tokenizer.eos_token_id


def test_the_export_scores_in_vllm_what_the_run_reported(trained, embedded, tmp_path):
    """512 samples have a standard error of at most 2.2 points; the same requests with the same seeds
    differ by rounding alone, so 8 points are far outside chance."""
    held_out = tmp_path / "heldout.jsonl"
    lines = (embedded / "task" / "heldout.jsonl").read_text().splitlines()
    held_out.write_text("\n".join(lines[:128]) + "\n")
    finished = run("evaluate", trained.folder / "export", held_out, "--temperature", 1, "--max_new_tokens", 64)
    assert finished.returncode == 0, finished.stdout
    assert "leaked" not in finished.stdout  # triton's bindings, at the end of the process
    accuracy = float(re.search(r"avg@4 ([\d.]+)%", finished.stdout).group(1)) / 100
    reported = json.loads((trained.folder / "summary.json").read_text())["trained"]["eval_chains_pass1"]
    assert abs(accuracy - reported) < 0.08


def test_a_run_folder_is_never_written_over(trained):
    before = (trained.folder / "metrics.jsonl").read_text()
    refused = run("train", "--config", "configs/quickstart.yaml", "--run.dir", trained.folder)
    assert refused.returncode == 2 and "already holds a run" in refused.stdout
    assert (trained.folder / "metrics.jsonl").read_text() == before


def test_the_run_leaves_its_report(trained):
    """Of all its steps, by the last page, and nothing was said against one."""
    page = (trained.folder / "report.html").read_text(encoding="utf-8")
    data = json.loads(page.partition('id="data">')[2].partition("</script>")[0])
    (shown,) = data["runs"]
    assert (shown["step"], shown["total"], shown["finished"], shown["method"]) == (8, 8, True, "prefix_rft")
    assert dict(shown["facts"])["Hardware"].startswith("1 node, ") and shown["notes"] == []
    assert len(shown["samples"]["groups"]) == 8 * 16 and shown["scores"]["last_step"] == 8
    assert {"Reward", "Prefix window", "Memory", "Seconds of a step"} <= {chart["title"] for chart in data["charts"]}
    assert "report.html was not made" not in trained.output


def test_rollouts_have_their_tokens_and_those_of_a_prefix_that_train(trained):
    """All log-probs were measured, for the correction. Of a step's prefix tokens at most ceil(0.2 n) train, in rows
    that have an advantage."""
    rollouts = trained.rollouts()
    for row in rollouts:
        assert sum(row["token_lengths"]) == len(row["prefix"] + row["continuation"])
        assert sum(row["token_lengths"][: row["prefix_length"]]) == len(row["prefix"])
        assert len(row["log_probs"]) == len(row["token_lengths"]) and max(row["log_probs"]) <= 0
        assert bool(row["reward"]) == (row["verdict"] == "equal") and not row["reward_failed"]
        assert all(place < row["prefix_length"] for place in row["kept"])
        assert row["prefix_advantage"] or not row["kept"]
    for step in range(1, 9):
        rows = [row for row in rollouts if row["step"] == step]
        given, kept = sum(row["prefix_length"] for row in rows), sum(len(row["kept"]) for row in rows)
        moved = all(row["prefix_advantage"] for row in rows if row["prefix_length"])
        assert kept <= math.ceil(0.2 * given - 1e-9)
        assert not moved or kept == math.ceil(0.2 * given - 1e-9)


def test_tensorboard_has_every_number_of_the_run_folder(trained):
    """Those of steps, saves and evaluations, at their steps, in single precision; and some rows of every step."""
    (folder,) = (trained.folder / "tensorboard").iterdir()
    found = EventAccumulator(str(folder)).Reload()
    scalars = {(name, event.step): event.value for name in found.Tags()["scalars"] for event in found.Scalars(name)}
    expected = {}
    for row in RunFolder(trained.folder).read("metrics"):
        kind = "eval" if any(name.startswith("eval_") for name in row) else "train"
        expected |= {(f"{kind}/{name}", row["step"]): value for name, value in row.items() if name != "step"}
    assert scalars == pytest.approx(expected, rel=1e-6)
    assert {event.step for event in found.Tensors("samples/text_summary")} == set(range(1, 9))
