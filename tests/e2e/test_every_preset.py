"""Three steps of every method on the real stack: its rows, its terms and what it leaves in the metrics."""

import json
import math
import subprocess
import sys
from itertools import islice, pairwise
from pathlib import Path

import pytest
import torch
from conftest import ROOT, SECONDS
from every_preset import flags
from transformers import AutoModelForCausalLM, AutoTokenizer

from openrlhf_prefix.algorithm.presets import PRESETS
from openrlhf_prefix.runtime.driver.launch import read_problems
from openrlhf_prefix.settings.model import load_tokenizer
from openrlhf_prefix.settings.resolve import resolve

# Controllers, and a method from outside the package.
OTHERS = {"on_failure", "gap", "ratio", "spread", "pass_rate", "focal", "masked"}


@pytest.fixture(scope="module")
def folder(embedded, tmp_path_factory) -> Path:
    made = tmp_path_factory.mktemp("every")
    command = [sys.executable, "-W", "ignore", "tests/e2e/every_preset.py", str(made)]
    done = subprocess.run(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=3 * SECONDS
    )
    assert done.returncode == 0, done.stdout
    return made


def read(folder: Path, preset: str, name: str = "metrics") -> list[dict]:
    return [json.loads(line) for line in (folder / preset / f"{name}.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("preset", [*PRESETS, *sorted(OTHERS)])
def test_three_steps_with_a_gradient(folder: Path, preset: str) -> None:
    steps = read(folder, preset)
    assert [row["step"] for row in steps] == [1, 2, 3]
    assert any(row["actor_grad_norm"] > 0 for row in steps)
    assert all(value == value for row in steps for value in row.values())  # no NaN


@pytest.mark.parametrize("preset", ["luffy", "srft", "rft_with_sft_loss", "chord_mu", "chord_phi", "focal"])
def test_a_whole_demonstration_is_a_member_of_its_group(folder: Path, preset: str) -> None:
    """The last of 8 rows: verified as right, trained to its stop token, and the policy writes nothing after it."""
    rows = read(folder, preset, "rollouts")
    assert len(rows) == 3 * 32
    for row in rows:
        whole = row["slot"] == 7
        assert bool(row["prefix"]) == whole
        if whole:
            assert row["prefix"].endswith("<|im_end|>") and row["continuation"] == "" and row["reward"] == 1.0
            assert len(row["kept"]) in ((0, row["prefix_length"]) if preset == "luffy" else (row["prefix_length"],))
    assert all(row["imitation_loss"] != 0 for row in read(folder, preset) if preset != "luffy")


def test_luffy_counts_the_demonstration_in_the_mean(folder: Path) -> None:
    rows = read(folder, "luffy", "rollouts")
    for group in range(4):
        members = [row for row in rows if row["step"] == 1 and row["group"] == group]
        mean = sum(row["reward"] for row in members) / 8
        assert members[7]["prefix_advantage"] == pytest.approx(1 - mean)
        assert members[0]["advantage"] == pytest.approx(members[0]["reward"] - mean)


def test_srft_weights_are_those_of_right_and_wrong_rows(folder: Path) -> None:
    sampled = [row for row in read(folder, "srft", "rollouts") if not row["prefix"]]
    assert all(row["advantage"] == -1.0 for row in sampled if not row["reward"])
    assert all(0.1 <= row["advantage"] < 1.0 for row in sampled if row["reward"])


def test_uft_gives_one_hint_to_the_whole_group(folder: Path) -> None:
    rows = read(folder, "uft", "rollouts")
    groups = {(row["step"], row["group"]): set() for row in rows}
    for row in rows:
        groups[row["step"], row["group"]].add(row["prefix"])
    assert all(len(prefixes) == 1 for prefixes in groups.values()) and len(set.union(*groups.values())) > 3


@pytest.mark.parametrize("preset", ["sft", "sft_f", "dft"])
def test_supervised_training_lowers_its_loss_and_samples_nothing(folder: Path, preset: str) -> None:
    """Three passes over 32 demonstrations."""
    steps = read(folder, preset)
    losses = [row["imitation_loss"] for row in steps]
    assert losses[0] > losses[2]
    assert all("rollout/entropy" not in row and row["prefix/rows"] == 32 for row in steps)


def test_a_divergence_from_the_policy_before_the_run_begins_as_likelihood(folder: Path, embedded: Path) -> None:
    """The reference model is the policy in the first step: all weights are 1, and the loss is -log p of all tokens."""
    args = resolve(flags("sft_f", folder)).args
    problems, _ = read_problems(args)
    model = AutoModelForCausalLM.from_pretrained(embedded / "model", dtype=torch.float32)
    total = count = 0.0
    for problem in problems:
        demonstration = [*problem.demonstrations[0].tolist(), load_tokenizer(args).eos_token_id]
        ids = torch.tensor([[*problem.prompt_ids.tolist(), *demonstration]])
        with torch.no_grad():
            log_probs = model(ids).logits[0, :-1].log_softmax(-1)[-len(demonstration) :]
        total -= log_probs.gather(-1, torch.tensor(demonstration).unsqueeze(-1)).sum().item()
        count += len(demonstration)
    assert read(folder, "sft_f")[0]["imitation_loss"] == pytest.approx(total / count, rel=0.02)  # of bf16


def test_a_mask_is_chosen_before_the_first_step(folder: Path) -> None:
    """A twentieth of the matrices of the layers, which are most of the model."""
    assert all(0.03 < row["mask/share"] < 0.05 for row in read(folder, "masked"))
    assert all("mask/share" not in row for row in read(folder, "prefix_rft"))


def test_own_right_samples_train_and_wrong_ones_leave_the_step(folder: Path) -> None:
    for step, metrics in enumerate(read(folder, "self_sft"), start=1):
        rows = [row for row in read(folder, "self_sft", "rollouts") if row["step"] == step]
        assert all(row["advantage"] == row["reward"] for row in rows)
        assert metrics["train/rows_skipped"] == sum(not row["reward"] for row in rows)


@pytest.mark.parametrize("preset", ["sft", "dft"])
def test_a_supervised_step_trains_every_token_and_the_stop_token(folder: Path, embedded: Path, preset: str) -> None:
    """Of 32 demonstrations, one token a character here apart from the command of the box, and one stop token each."""
    tokenizer = AutoTokenizer.from_pretrained(embedded / "model")
    with (embedded / "task" / "train.jsonl").open() as lines:
        texts = [json.loads(line)["demonstrations"][0] for line in islice(lines, 32)]
    tokens = sum(len(ids) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"])
    assert [row["train/tokens"] for row in read(folder, preset)] == [tokens + 32] * 3


def test_the_supervised_stage_comes_first_with_its_own_learning_rate(folder: Path) -> None:
    first, second, third = read(folder, "sft_then_rft")
    assert first["sft/rows"] == second["sft/rows"] == 32 and "sft/rows" not in third
    assert first["actor_lr"] == pytest.approx(5e-4) and third["actor_lr"] == pytest.approx(1e-4)
    assert first["imitation_loss"] > second["imitation_loss"] > 0
    rows = read(folder, "sft_then_rft", "rollouts")
    assert {row["step"] for row in rows} == {3} and not any(row["prefix"] for row in rows)


def test_prefixes_after_the_supervised_stage_go_where_the_plain_rows_failed(folder: Path) -> None:
    """A step of dft on 3 of 4 problems, whose loss on the fourth is a mean of -p; then two visits of all of them."""
    first, second, third = read(folder, "prefix_after_sft")
    assert first["sft/rows"] == 32 and -1 < first["sft/validation_loss"] < 0
    assert "sft/rows" not in second and second["prefix/rows"] == 0
    rows = read(folder, "prefix_after_sft", "rollouts")
    right = {row["problem"] for row in rows if row["step"] == 2 and row["reward"]}
    prefixed = {row["problem"] for row in rows if row["step"] == 3 and row["prefix"]}
    assert prefixed == {row["problem"] for row in rows} - right and third["prefix/rows"] == len(prefixed)


def test_relift_takes_a_supervised_step_when_enough_problems_wait(folder: Path) -> None:
    """Groups of 2 with at most one right sample wait; as soon as 32 do, an optimizer step of them leaves."""
    waiting = supervised = 0
    for step, metrics in enumerate(read(folder, "relift"), start=1):
        rows = [row for row in read(folder, "relift", "rollouts") if row["step"] == step]
        right = [sum(row["reward"] for row in rows if row["group"] == group) for group in range(16)]
        waiting += sum(count <= 1 for count in right)
        due = 32 if waiting >= 32 else 0
        waiting, supervised = waiting - due, supervised + due
        assert (metrics["rescue/waiting"], metrics["rescue/supervised_rows"]) == (waiting, due)
        assert (metrics["imitation_loss"] > 0) == (due > 0)
    assert supervised == 32


def test_hpt_replaces_groups_with_too_few_right_samples(folder: Path) -> None:
    for step, metrics in enumerate(read(folder, "hpt"), start=1):
        rows = [row for row in read(folder, "hpt", "rollouts") if row["step"] == step]
        right = [sum(row["reward"] for row in rows if row["group"] == group) for group in range(4)]
        assert metrics["rescue/replaced"] == sum(count <= 3 for count in right)
        assert (metrics["imitation_loss"] > 0) == (metrics["rescue/replaced"] > 0)


def test_a_teacher_takes_the_place_of_the_reward_until_it_is_withdrawn(folder: Path) -> None:
    """opd: no advantage anywhere, and every row is judged. opd_then_rft: two such steps, and one without a teacher."""
    for preset, judged in (("opd", [1, 2, 3]), ("opsd", [1, 2, 3]), ("opd_then_rft", [1, 2])):
        rows = read(folder, preset, "rollouts")
        assert not any(row["advantage"] for row in rows if row["step"] in judged)
        for metrics in read(folder, preset):
            known = [metrics.get(f"teacher/{name}") for name in ("coef", "rows")]
            assert known == ([1.0, 32.0] if metrics["step"] in judged else [0.0, None])
            assert ("teacher/kl" in metrics) == (metrics["step"] in judged)
    assert any(row["advantage"] for row in read(folder, "opd_then_rft", "rollouts"))


def test_a_teacher_beside_the_reward_judges_all_rows_or_those_of_groups_that_failed(folder: Path) -> None:
    """kdrl: 0.2 -> 0.002 over three steps. hdpo: groups with at most 3 right rows."""
    weights = [metrics["teacher/coef"] for metrics in read(folder, "kdrl")]
    assert weights == pytest.approx([0.2, 0.134, 0.068])
    for step, metrics in enumerate(read(folder, "hdpo"), start=1):
        rows = [row for row in read(folder, "hdpo", "rollouts") if row["step"] == step]
        right = [sum(row["reward"] for row in rows if row["group"] == group) for group in range(4)]
        assert metrics["teacher/rows"] == 8 * sum(count <= 3 for count in right)
    assert any(row["advantage"] for row in read(folder, "kdrl", "rollouts"))


@pytest.mark.parametrize("preset", ["disc_ft", "disc_ft2", "irft", "sspo"])
def test_a_demonstration_is_held_against_own_samples(folder: Path, preset: str) -> None:
    """The last row of every group; no row has an advantage, and every one trains."""
    for metrics in read(folder, preset):
        rows = [row for row in read(folder, preset, "rollouts") if row["step"] == metrics["step"]]
        assert (
            metrics["contrast/demonstrations"]
            == sum(bool(row["prefix"]) for row in rows)
            == len(rows) / (8 if preset.startswith("disc") else 2)
        )
        assert not any(row["advantage"] or row["prefix_advantage"] for row in rows)
        # Not even the reward decides on them, apart from the own samples that are right.
        right = sum(row["reward"] for row in rows if not row["prefix"])
        assert metrics["train/rows_skipped"] >= (right if preset == "sspo" else 0)
        if preset == "sspo":
            assert metrics["contrast/left_out"] == pytest.approx(right / 16)


def test_the_partition_of_a_problem_goes_on_at_its_next_visit(folder: Path) -> None:
    """disc_ft2, three visits of four problems: s is below 0 as a mean of log-probs, and u has begun at 0."""
    partitions = [metrics["contrast/partition"] for metrics in read(folder, "disc_ft2")]
    assert max(partitions) < 0 and len(set(partitions)) == 3


def test_pairs_are_weighed_by_the_policy_of_the_start_of_their_stage(folder: Path) -> None:
    """irft: stages of two steps; sspo: one. log 2 where the policy is still that of the start."""
    for preset, starts in (("irft", [1, 3]), ("sspo", [1])):
        for metrics in read(folder, preset):
            at_start = abs(metrics["contrast/loss"] - math.log(2)) < 1e-6
            assert at_start == (metrics["contrast/margin"] == 0) == (metrics["step"] in starts)


def test_a_reward_that_is_learnt_takes_the_place_of_the_verifiers(folder: Path) -> None:
    """4 groups of a demonstration and 7 own samples, which alone are compared: GRPO's advantages of what r says."""
    for metrics in read(folder, "irl_reward"):
        rows = [row for row in read(folder, "irl_reward", "rollouts") if row["step"] == metrics["step"]]
        assert metrics["irl/pairs"] + metrics["irl/equal"] == 4
        assert metrics["reward"] == pytest.approx(sum(row["reward"] for row in rows) / 32, abs=1e-6)
        assert "verifier/equal" not in metrics and not any(row["answer"] or "verdict" in row for row in rows)
        assert metrics["train/rows_skipped"] >= 4 and metrics["kl"] == metrics["kl"]
        for group in range(4):
            *own, star = [row for row in rows if row["group"] == group]
            assert star["prefix"] and not star["kept"] and not any(row["prefix"] for row in own)
            rewards = torch.tensor([row["reward"] for row in own])
            if (spread := rewards.std(correction=1)) > 0:
                wanted = (rewards - rewards.mean()) / (spread + 1e-6)
                assert [row["advantage"] for row in own] == pytest.approx(wanted.tolist(), abs=0.02)
    first, *later = read(folder, "irl_reward")
    assert first["irl/loss"] == pytest.approx(math.log(2)) and first["kl"] == pytest.approx(0.0, abs=0.5)
    assert all(metrics["irl/loss"] != pytest.approx(math.log(2), abs=1e-6) for metrics in later)


def test_on_failure_gives_prefixes_only_after_a_visit_without_a_right_sample(folder: Path) -> None:
    """Three visits of the same 4 problems."""
    rows = read(folder, "on_failure", "rollouts")
    assert not any(row["prefix"] for row in rows if row["step"] == 1)
    for step in (2, 3):
        before = [row for row in rows if row["step"] == step - 1]
        failed = {row["problem"] for row in before} - {
            row["problem"] for row in before if row["reward"] and not row["prefix"]
        }
        assert {row["problem"] for row in rows if row["step"] == step and row["prefix"]} == failed


def test_the_gap_ends_imitation_when_the_plain_rows_have_reached_the_goal(folder: Path) -> None:
    """1 - score / 0.05 of the step before: nothing from 2 of 28 plain rows on, and then for good."""
    share, rows = 1.0, read(folder, "gap", "rollouts")
    for step, metrics in enumerate(read(folder, "gap"), start=1):
        assert metrics["prefix/share"] == pytest.approx(share)
        assert ("prefix/gradient" in metrics) == (share > 0)  # whole demonstrations, whose weight is 0.9 x share
        plain = [row["reward"] for row in rows if row["step"] == step and not row["prefix"]]
        assert len(plain) == 28
        share = max(1 - sum(plain) / 28 / 0.05, 0.0) if share else 0.0
    assert share == 0.0


def test_lengths_are_those_of_their_controllers(folder: Path) -> None:
    """5 tokens for all; four lengths of one demonstration, in their order; by what a group got right at its last
    visit, from one half on."""
    ratio = [row["prefix_length"] for row in read(folder, "ratio", "rollouts") if row["prefix"]]
    assert set(ratio) == {5} and len(ratio) == 12
    assert [row["prefix/tokens"] for row in read(folder, "ratio")] == [5.0] * 3
    groups: dict[tuple[int, int], list[dict]] = {}
    for row in read(folder, "spread", "rollouts"):
        groups.setdefault((row["step"], row["group"]), []).append(row)
    for rows in groups.values():
        prefixes = [row["prefix"] for row in rows]
        assert prefixes[:4] == [""] * 4
        assert all(second.startswith(first) for first, second in pairwise(prefixes[4:]))
        assert len(prefixes[7]) > len(prefixes[4]) > 0
    given: dict[str, float] = {}
    rows = read(folder, "pass_rate", "rollouts")
    for step, metrics in enumerate(read(folder, "pass_rate"), start=1):
        visit = [row for row in rows if row["step"] == step]
        ratios = [given.get(row["problem"], 0.5) for row in visit if row["slot"] >= 4]
        shown = [ratio for ratio in ratios if ratio > 0]
        assert metrics["prefix/ratio"] == pytest.approx(sum(shown) / len(shown), rel=1e-5)
        for problem in {row["problem"] for row in visit}:
            success = sum(row["reward"] for row in visit if row["problem"] == problem) / 8
            given[problem] = min(max(given.get(problem, 0.5) + (0.5 - success) / 2, 0.0), 0.95)
