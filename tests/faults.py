"""Faults that published code has had, put back into a copy of the package: each must make a named test fail."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Fault:
    """`before` stands exactly once in `file` of the package, and `after` takes its place."""

    name: str
    file: str
    before: str
    after: str
    test: str  # pytest's name of the test that notices

    def plant(self, folder: Path) -> dict[str, str]:
        """A copy of package and tests with the fault; returns the environment in which Python imports it."""
        env = copy(folder)
        path = folder / "openrlhf_prefix" / self.file
        source = path.read_text(encoding="utf-8")
        assert source.count(self.before) == 1, f"{self.file} no longer holds {self.before!r} once"
        path.write_text(source.replace(self.before, self.after), encoding="utf-8")
        return env

    def run(self, folder: Path) -> subprocess.CompletedProcess:
        """The test, with the fault in place."""
        return run([self.test], folder, self.plant(folder))


def copy(folder: Path) -> dict[str, str]:
    """Package and tests as they are; returns the environment in which Python imports them."""
    for part in ("openrlhf_prefix", "tests", "configs"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    return {**os.environ, "PYTHONPATH": str(folder), "COLUMNS": "1000"}  # no cut in the lines of the summary


def run(tests: list[str], folder: Path, env: dict[str, str]) -> subprocess.CompletedProcess:
    command = [sys.executable, "-W", "ignore", "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=900)


def noticed(test: str, output: str) -> bool:
    """Whether an assertion of the test failed, by pytest's summary; an error on the way to it says nothing.

    Example: "FAILED tests/x.py::test_y[1] - assert 1 == 2", or "... - AssertionError: why".
    """
    reason = r"(assert |AssertionError|Failed: DID NOT RAISE)"
    return re.search(rf"^FAILED {re.escape(test)}(\[.*?\]|::\S+)? - {reason}", output, flags=re.MULTILINE) is not None


EVALUATED = "test_engines_sample_with_the_weights_of_a_stage_and_are_evaluated_with_the_current_ones"
FEW_LAYOUTS = "tests/integration/runtime/test_exactness.py::test_a_few_layouts_with_every_divisor"
FAULTS = [
    Fault(
        "mean of micro-batch means",
        "runtime/learner/actor_trainer.py",
        "loss = self._loss(batch, counts, kl_ctl, of_step)",
        "share = sum(int(row.action_mask.sum()) for row in batch) / counts.tokens\n"
        "            own = type(counts)(*(share * value for value in vars(counts).values()))\n"
        "            loss = self._loss(batch, own, kl_ctl, of_step) / len(step)",
        FEW_LAYOUTS,
    ),
    Fault(
        "skipped rows recounted",
        "runtime/rows/batches.py",
        "torch.tensor([[*_counted(step), len(kept)]])",
        "torch.tensor([[*_counted(kept), len(kept)]])",
        "tests/integration/runtime/test_exactness.py::test_the_loss_of_every_preset",
    ),
    Fault(
        "missing accumulation boundary",
        "runtime/learner/accumulation.py",
        "engine.set_gradient_accumulation_boundary(number == len(losses))",
        "engine.set_gradient_accumulation_boundary(True)",
        FEW_LAYOUTS,
    ),
    Fault(
        "demonstrations held out and trained",
        "runtime/controller/demonstrations.py",
        "order[:held_out], order[held_out:]",
        "order[:held_out], order",
        "tests/integration/runtime/test_demonstration_rows.py::test_held_out_demonstrations_are_never_trained",
    ),
    Fault(
        "prefixes withdrawn for a step alone",
        "algorithm/controllers.py",
        "        if self.withdrawn:\n            return 0.0\n",
        "",
        "tests/unit/algorithm/test_controllers.py::test_gap_withdraws_for_good_and_not_after_one_lucky_step",
    ),
    Fault(
        "EMA untouched",
        "runtime/learner/average.py",
        "average.lerp_(piece.detach().cpu(), 1 - self.beta)",
        "average.clone().lerp_(piece.detach().cpu(), 1 - self.beta)",
        "tests/integration/runtime/test_average.py::test_the_export_is_the_average_over_the_applied_steps[1-3-0-0]",
    ),
    Fault(
        "samples taken for problems",
        "evaluation/results.py",
        "standard_error(chances)",
        "standard_error([verdict.score for verdict in flat])",
        "tests/unit/evaluation/test_results.py::test_the_error_is_over_problems_not_samples",
    ),
    Fault(
        "gold left behind by a shuffle",
        "evaluation/choices.py",
        "options.labels[order.index(options.labels.index(gold))]",
        "gold",
        "tests/unit/evaluation/test_choices.py::test_the_gold_moves_with_its_text_and_nothing_else_changes",
    ),
    Fault(
        "manifest by listing",
        "runtime/learner/checkpoints.py",
        "files += [path for path in written if not path.is_dir()]",
        "files = [folder / name for name in manifest.files_of(folder)]",
        "tests/integration/runtime/test_checkpoints.py::test_a_rank_names_what_it_wrote_whatever_the_folder_lists",
    ),
    Fault(
        "failure share over the wrong rows",
        "runtime/controller/generator.py",
        "self._check_failures(rows)",
        "self._check_failures(len(kept))",
        "tests/integration/runtime/test_filtering.py::test_failed_rewards_are_counted_over_all_rollouts",
    ),
    Fault(
        "uneven forward batches",
        "runtime/controller/experience_maker.py",
        "first = filled(seen, self._ranks())",
        "first = list(seen)",
        "tests/integration/runtime/test_uneven_batches.py::test_passes_are_filled_up_and_nothing_of_that_is_left",
    ),
    Fault(
        "prefix mask shifted by one",
        "runtime/rows/fields.py",
        "mask.cumsum(-1) <= lengths",
        "mask.cumsum(-1) - 1 <= lengths",
        "tests/integration/runtime/test_experience_maker.py::test_groups_and_selection_by_hand",
    ),
    Fault(
        "selection per micro-batch",
        "runtime/controller/experience_maker.py",
        "kept = select_prefix_tokens(padded(entropies), padded(prefix_masks), flags.keep, flags.scope)",
        "kept = torch.cat([select_prefix_tokens(padded([e]), padded([m]), flags.keep) "
        "for e, m in zip(entropies, prefix_masks, strict=True)])",
        "tests/integration/runtime/test_experience_maker.py::test_the_split_into_forward_batches_changes_nothing",
    ),
    Fault(
        "prefix tokens in the mismatch correction",
        "algorithm/hybrid.py",
        "mismatch_weights(old, rows.of_engine(), sampled, **vars(correction))",
        "mismatch_weights(old, rows.of_engine(), action, **vars(correction))",
        "tests/unit/algorithm/test_hybrid.py::test_the_correction_does_not_see_prefix_tokens",
    ),
]
FAULTS += [
    Fault(
        "the teacher judges the end of an answer",
        "runtime/controller/teacher.py",
        "grid[torch.isin(row.sequences[0, 1:], self.ends)] = math.nan",
        "pass",
        "tests/integration/runtime/test_teacher.py::test_it_judges_sampled_tokens_but_the_last",
    ),
    Fault(
        "mean of the teacher's term per micro-batch",
        "algorithm/hybrid.py",
        '"token-mean", counts.taught, counts.rows',
        '"token-mean", float(mask.sum()), counts.rows',
        "tests/unit/algorithm/test_hybrid.py::test_micro_batches_add_up_to_the_whole_step",
    ),
    Fault(
        "weight decay outside the mask",
        "algorithm/mask.py",
        "part.mul_(torch.where(inside, kept, 1.0))",
        "part.mul_(kept)",
        "tests/unit/algorithm/test_mask_scores.py::test_decay_acts_inside_alone",
    ),
    Fault(
        "head without temperature",
        "runtime/learner/head.py",
        "rows.labels, actor.temperature, entropy",
        "rows.labels, 1.0, entropy",
        "tests/integration/runtime/test_head.py::test_it_is_what_upstream_computes",
    ),
    Fault(
        "wrong end of the learning rate's schedule",
        "runtime/learner/actor_trainer.py",
        "return shape(min(step, steps))",
        "return shape(step)",
        "tests/integration/runtime/test_learning_rate.py::test_it_stays_where_it_ends",
    ),
    Fault(
        "buffers of a sleeping optimizer stay on the GPU after a resume",
        "runtime/learner/checkpoints.py",
        "        drop_sleeping_copies(engine.optimizer.optimizer)\n",
        "",
        "tests/integration/runtime/test_sleeping_optimizer.py::test_a_resume_keeps_the_moments_alone_and_sleeps_on",
    ),
    Fault(
        "bucket of stale weights",
        "runtime/engine/cpu_worker.py",
        "self._received += bucket.unpack(buffer)",
        "self._received += [] if number == 1 else bucket.unpack(buffer)",
        "tests/integration/runtime/test_weight_sync.py::test_engines_hold_what_the_trainer_holds_after_every_sync[1]",
    ),
    Fault(
        "a converted tokenizer ends turns where they begin",
        "data/smollm2.py",
        "eos_token=END,",
        "eos_token=START,",
        "tests/unit/data/test_smollm2.py::test_the_published_tokenizer_cuts_digits_and_ends_where_a_turn_ends",
    ),
    Fault(
        "samples that were cut off become demonstrations",
        "runtime/evaluate/own_samples.py",
        ' and line["finish"] == "stop"',
        "",
        "tests/integration/runtime/test_data_sampling.py::test_right_samples_that_ended_become_the_demonstrations",
    ),
    Fault(
        "a problem's partition forgotten",
        "algorithm/contrast.py",
        "self.u.get(problem, 0.0)",
        "0.0",
        "tests/unit/algorithm/test_contrast_terms.py::test_the_partition_moves_as_worked_out_by_hand_over_two_visits",
    ),
    Fault(
        "a right sample pushed down",
        "algorithm/contrast.py",
        "self.beta * weights * held /",
        "self.beta * weights /",
        "tests/unit/algorithm/test_contrast_terms.py::test_the_gradient_of_a_pair_is_that_of_dpo",
    ),
    Fault(
        "the reward of padding after the shorter text",
        "algorithm/irl.py",
        "one[places.clamp(max=len(one) - 1)]",
        "torch.cat([one, one.new_zeros(1, one.shape[1])])[places.clamp(max=len(one))]",
        "tests/unit/algorithm/test_irl.py::test_a_pair_of_different_lengths_by_hand",
    ),
    Fault(
        "an evaluation of older weights",
        "runtime/controller/evaluating.py",
        "self.give(None)",
        "self.give(self.stages.of(global_step))",
        f"tests/integration/runtime/test_contrast.py::{EVALUATED}",
    ),
]
STALE_WEIGHT = Fault(
    "stale engine weights",
    "runtime/engine/cpu_worker.py",
    "self._received += bucket.unpack(buffer)",
    'self._received += [(n, w) for n, w in bucket.unpack(buffer) if "layers.1.mlp.down_proj" not in n]',
    "tests/e2e/test_doctor.py",
)
