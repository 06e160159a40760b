"""Flags of earlier OpenRLHF versions are answered with today's, values included, all in one sentence."""

import pytest

from openrlhf_prefix.errors import UserError
from openrlhf_prefix.settings import renamed


def answer(command_line: str) -> str:
    with pytest.raises(UserError) as caught:
        renamed.refuse_old(renamed.written_in(command_line.split()))
    return str(caught.value)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        # 0.11.0: tis was the default type; its clip of single tokens is level token, mode clip
        (
            "--algo.advantage.is_correction_enable",
            "is_correction_level token --algo.advantage.is_correction_mode clip",
        ),
        ("--algo.advantage.is_correction_type icepop", "level token --algo.advantage.is_correction_mode mask"),
        ("--algo.advantage.is_correction_type seq-mask-tis", "level seq --algo.advantage.is_correction_mode mask"),
        # up to 0.10: names without dots
        ("--enable_vllm_is_correction", "level token --algo.advantage.is_correction_mode clip"),
        ("--pretrain meta/llama", "--actor.model_name_or_path meta/llama"),
        ("--adam_betas 0.9 0.95", "--actor.adam.betas 0.9 0.95"),
        ("--max_len=2048", "--data.max_len 2048"),
        ("--colocate_all_models", "--train.colocate_all"),
        ("--bf16", "--ds.param_dtype bf16"),
        ("--flash_attn", "--ds.attn_implementation flash_attention_2"),
        ("--vllm_tensor_parallel_size 2", "--vllm.tensor_parallel_size 2"),
        ("--micro_rollout_batch_size 4", "--rollout.micro_batch_size 4"),
    ],
)
def test_an_old_name_is_answered_with_the_new_one_and_its_value(old: str, new: str) -> None:
    said = answer(old)
    assert new in said and old.split()[0].split("=")[0].removeprefix("--") in said


def test_both_flags_of_the_correction_make_one_answer() -> None:
    said = answer("--algo.advantage.is_correction_enable --algo.advantage.is_correction_type icepop --actor.adam.lr 1")
    assert said == (
        "OpenRLHF has renamed flags: for algo.advantage.is_correction_enable, algo.advantage.is_correction_type give "
        "--algo.advantage.is_correction_level token --algo.advantage.is_correction_mode mask"
    )


def test_flags_without_a_successor_are_to_be_left_out() -> None:
    said = answer("--ptx_coef 0.05 --l2 0.01")
    assert "for l2 give --actor.adam.weight_decay 0.01; leave out ptx_coef, gone without a successor" in said


def test_todays_names_pass() -> None:
    renamed.refuse_old(renamed.written_in(["--actor.adam.lr", "1e-6", "--train.colocate_all", "--eval.steps=-1"]))
    renamed.refuse_old({})


def test_the_answer_is_a_command_line_that_passes() -> None:
    """Old names are left out and today's put in; what has none of either stays."""
    given = renamed.written_in(["--bf16", "--actor_learning_rate", "5e-7", "--perf", "--run.dir", "runs/x"])
    assert [name for name in given if renamed.is_old(name)] == ["bf16", "actor_learning_rate", "perf"]
    assert renamed.todays(given) == ["--actor.adam.lr 5e-7", "--ds.param_dtype bf16"]
    renamed.refuse_old(renamed.written_in(" ".join(renamed.todays(given)).split()))
