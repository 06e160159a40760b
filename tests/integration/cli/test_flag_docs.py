"""docs/flags.md is the parser's; what it says of defaults is what a run gets."""

from pathlib import Path

import pytest

pytest.importorskip("openrlhf")

from openrlhf_prefix.algorithm.compat import COMPAT  # noqa: E402
from openrlhf_prefix.algorithm.presets import PRESETS  # noqa: E402
from openrlhf_prefix.settings import preset_flags  # noqa: E402
from openrlhf_prefix.settings.flag_docs import page  # noqa: E402
from openrlhf_prefix.settings.reference import all_flags  # noqa: E402
from openrlhf_prefix.settings.resolve import FILLED, resolve  # noqa: E402

PAGE = Path(__file__).parents[3] / "docs" / "flags.md"


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text() == page(all_flags()), "run: openrlhf-prefix flags > docs/flags.md"


def test_the_page_has_every_flag_of_ours_and_of_openrlhfs() -> None:
    rows = [line.split("`")[1] for line in PAGE.read_text().splitlines() if line.startswith("| `--")]
    assert {f"--{flag.name}" for flag in all_flags()} == set(rows)


def row(name: str) -> list[str]:
    line = next(line for line in PAGE.read_text().splitlines() if line.startswith(f"| `--{name}` |"))
    return [cell.strip() for cell in line.strip("| ").split(" | ")]


def test_a_row_has_default_meaning_and_what_moves_the_default() -> None:
    keep = row("prefix.keep")
    assert keep[1] == "`0.2`" and keep[3].startswith("`0.0` rft, self_sft, sft_then_rft, prefix_context, opd")
    assert row("hybrid.sft_steps")[3] == "`-1` sft_then_rft, prefix_after_sft"
    assert row("prefix.in_entropy")[1:] == [
        "`false`",
        "entropy bonus on prefix tokens too",
        "`true` prefix.compat official",
    ]
    assert row("ds.zero_stage") == ["`--ds.zero_stage`", "`2`", "`3`"]


def test_the_shown_default_is_the_one_a_run_gets() -> None:
    """But for the few that follow from others, which are shown in words."""
    required = ("--rollout.max_new_tokens", "64", "--vllm.num_engines", "1", "--actor.num_gpus_per_node", "1")
    flat = resolve([*required, "--rollout.batch_size", "16"], files=False).flat
    given = {*(word[2:] for word in required if word.startswith("--")), "rollout.batch_size", *FILLED}
    compared = [flag for flag in all_flags() if flag.name in flat and flag.name not in given]
    wrong = {
        flag.name: (flag.default, flat[flag.name])
        for flag in compared
        if flat[flag.name] != flag.default and flag.name != "logger.wandb.run_name"  # the minute
    }
    assert not wrong and len(compared) > 180


@pytest.mark.parametrize("preset", [name for name in PRESETS if name != "prefix_rft"])
def test_what_a_preset_moves_is_the_difference_of_its_row(preset: str) -> None:
    """Field by field of the table: those that prefix_rft has otherwise, and no others."""
    usual, row = vars(PRESETS["prefix_rft"]), vars(PRESETS[preset])
    expected = {preset_flags.flag_of(name): row[name] for name in row if name != "source" and row[name] != usual[name]}
    if samples := expected.pop("hybrid.samples", None):
        expected["rollout.n_samples_per_prompt"] = samples
    moved = {flag.name: flag.moved[preset] for flag in all_flags() if preset in flag.moved}
    assert {name: value for name, value in moved.items() if name not in preset_flags.UPSTREAM} == expected


def test_the_official_code_moves_what_its_row_says() -> None:
    of = "prefix.compat official"
    moved = {flag.name: flag.moved[of] for flag in all_flags() if of in flag.moved}
    assert moved == COMPAT["official"]
