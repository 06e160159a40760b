"""Flags of OpenRLHF that do nothing here, are refused, or were never run with prefixes: each is told."""

import pytest

from openrlhf_prefix.errors import UserError
from openrlhf_prefix.settings import preset_flags, upstream_flags

KNOWN = dict.fromkeys(("critic.adam.lr", "actor.freeze_visual_encoder", "ds.zpg", "actor.adam.lr"))


@pytest.mark.parametrize(
    ("name", "value", "mend"),
    [
        ("train.async_enable", True, "leave it out"),
        ("train.partial_rollout_enable", True, "a part of train.async_enable"),
        ("data.prompt_probs", "0.5,0.5", "repeat a file's rows instead"),
        ("data.max_images_per_prompt", 1, "text only"),
        ("ds.tensor_parallel_size", 2, "use ds.zero_stage 3"),
        ("critic.freezing_steps", 5, "there is no critic here"),
        ("ds.use_universal_ckpt", True, "its own checkpoints"),
    ],
)
def test_what_cannot_run_here_is_refused_by_name_and_value(name: str, value: object, mend: str) -> None:
    with pytest.raises(UserError, match=f"^{name} is not supported with {value}: .*{mend}"):
        upstream_flags.refuse({"actor.adam.lr": 1.0, name: value})


def test_flags_without_effect_are_told_in_one_line_even_at_their_default() -> None:
    given = {"critic.adam.lr": 9e-6, "actor.freeze_visual_encoder": True, "actor.adam.lr": 1e-6}
    assert upstream_flags.notes(given, {}, KNOWN) == [
        "without effect here: critic.adam.lr (there is no critic); actor.freeze_visual_encoder (prompts are text)"
    ]


def test_a_flag_that_no_test_runs_is_told_once_it_is_changed() -> None:
    given = {"ds.zpg": 8, "actor.adam.lr": 1e-6, "prefix.keep": 0.5}
    assert upstream_flags.notes(given, given, KNOWN) == ["not tested with prefixes: ds.zpg"]
    assert upstream_flags.notes(given, {}, KNOWN) == []


def test_a_script_without_an_estimator_is_told_what_it_gets() -> None:
    flat = {"hybrid.preset": "prefix_rft", "hybrid.estimator": "dr_grpo", "rollout.n_samples_per_prompt": 8}
    (line,) = preset_flags.unnamed_estimator({"critic.adam.lr": 1.0}, flat)
    assert "OpenRLHF would train a critic (gae)" in line and "takes dr_grpo" in line and "a group of 8" in line
    for named in ("hybrid.preset", "hybrid.estimator", "algo.advantage.estimator"):
        assert preset_flags.unnamed_estimator({named: "x"}, flat) == []


DEFAULTS = {"rollout.n_samples_per_prompt": 8}


def test_sft_brings_its_own_number_of_samples_and_keeps_the_rows_of_a_step() -> None:
    """16 problems x 8 samples are 128 rows: 128 problems x 1."""
    explicit = {"hybrid.preset": "sft", "rollout.batch_size": 16, "rollout.n_samples_per_prompt": "8"}
    sizes, (line,) = preset_flags.preset_sizes(explicit, DEFAULTS)
    assert sizes == {"rollout.n_samples_per_prompt": 1, "rollout.batch_size": 128}
    assert line.endswith("a step of 16 problems x 8 samples becomes one of 128 problems x 1")
    assert preset_flags.preset_sizes({"hybrid.preset": "dft", "rollout.batch_size": 16}, DEFAULTS)[0] == sizes


@pytest.mark.parametrize(
    "explicit",
    [
        {"hybrid.preset": "rft", "rollout.batch_size": 16},
        {"hybrid.preset": "sft", "rollout.batch_size": 128, "rollout.n_samples_per_prompt": 1},
        {"hybrid.preset": "sft", "rollout.batch_size": 16, "prefix.prefixed_per_group": 1},
    ],
)
def test_other_sizes_are_the_users(explicit: dict) -> None:
    assert preset_flags.preset_sizes(explicit, DEFAULTS) == ({}, [])
