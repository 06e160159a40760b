"""Presets fill what the user left alone, upstream's names are understood, and impossible settings are refused."""

import argparse
from pathlib import Path
from types import SimpleNamespace

import pytest

from openrlhf_prefix.algorithm.advantages import ESTIMATORS
from openrlhf_prefix.algorithm.mask import SCORES
from openrlhf_prefix.algorithm.presets import PRESETS
from openrlhf_prefix.data import cuts
from openrlhf_prefix.errors import UserError
from openrlhf_prefix.settings import checks, config, derived, flags, preset_flags

# The flags of OpenRLHF that the checks read, with values that pass them: 8 problems x 4 rows = 32 rows a step.
UPSTREAM = {
    "actor.adam.lr": 1e-6,
    "actor.loss_agg_mode": "token-mean",
    "actor.num_gpus_per_node": 2,
    "actor.num_nodes": 1,
    "actor.optim": "adam",
    "actor.policy_loss_type": "ppo",
    "algo.advantage.estimator": "gae",
    "algo.kl.init_coef": 0.0,
    "algo.advantage.is_correction_gating": "ratio",
    "algo.advantage.is_correction_level": "off",
    "algo.advantage.is_correction_mode": "mask",
    "algo.advantage.is_correction_threshold": [0.5, 5.0],
    "critic.freezing_steps": -1,
    "ckpt.save_steps": -1,
    "data.max_images_per_prompt": 0,
    "data.prompt_probs": "",
    "ds.ring_attn_size": 1,
    "ds.tensor_parallel_size": 1,
    "ds.zero_stage": 3,
    "ds.attn_implementation": "flash_attention_2",
    "ds.param_dtype": "bf16",
    "ds.grad_accum_dtype": "",
    "eval.n_samples_per_prompt": 4,
    "eval.steps": -1,
    "ref.num_nodes": 1,
    "ref.num_gpus_per_node": 8,
    "reward.model_name_or_path": "",
    "reward.remote_url": "",
    "rollout.batch_size": 8,
    "rollout.max_new_tokens": 64,
    "rollout.n_samples_per_prompt": 4,
    "train.batch_size": 16,
    "train.max_epochs": 1,
    "train.micro_batch_size": 4,
    "train.num_episodes": 1,
    "train.seed": 42,
    "train.agent_func_path": "",
    "vllm.num_engines": 1,
    "vllm.tensor_parallel_size": 1,
    "logger.wandb.key": "",
}
SWITCHES = ("train.async_enable", "train.dynamic_batch_enable", "train.colocate_all")
SWITCHES += ("ds.enable_sleep", "train.colocate_actor_ref")
SWITCHES += ("algo.dynamic_filtering_enable", "algo.kl.use_loss", "ds.load_in_4bit", "ds.use_liger_kernel")


OPD = {"hybrid__preset": "opd", "teacher__model": "some/model"}
IRFT = {"hybrid__preset": "irft", "train__batch_size": 32}
IRL = {"hybrid__preset": "irl_reward"}


def of_preset(name: str) -> dict[str, object]:
    """The preset, and what it needs of a user."""
    row = PRESETS[name]
    alone = {"rollout__n_samples_per_prompt": 1, "rollout__batch_size": 16} if row.samples == 1 else {}
    teacher = {"teacher__model": "some/model"} if row.teacher_coef and row.teacher_model is None else {}
    one_step = {"train__batch_size": 32} if row.contrast_rule != "none" else {}
    return {"hybrid__preset": name, **alone, **teacher, **one_step}


def resolved(**explicit: object) -> SimpleNamespace:
    """Nested flags from what the user set; a double underscore in a keyword stands for the dot."""
    explicit = {name.replace("__", "."): value for name, value in explicit.items()}
    parser = argparse.ArgumentParser()
    for name, default in UPSTREAM.items():
        parser.add_argument(f"--{name}", type=type(default), default=default)
    for name in ("actor.dual_clip", "actor.entropy_coef", "rollout.vllm_generate_batch_size"):
        parser.add_argument(f"--{name}", type=float, default=None)
    for name in SWITCHES:
        parser.add_argument(f"--{name}", action="store_true", default=False)
    parser.add_argument("--ds.lora.rank", type=int, default=0)
    parser.add_argument("--ds.lora.target_modules", nargs="*", default="all-linear")
    flags.add_flags(parser)
    return config.nested(config.parse(parser, {**preset_flags.preset_values(explicit), **explicit}))


def refusal(**explicit: object) -> str:
    with pytest.raises(UserError) as caught:
        checks.check_flags(resolved(**explicit))
    return str(caught.value)


def test_the_defaults_pass_every_check() -> None:
    checks.check_flags(resolved())


def test_the_default_preset_is_prefix_rft() -> None:
    """Paper setting: 1 prefixed row, Dr. GRPO against the plain rows, top 20 %, a constant divisor, clipped."""
    args = resolved()
    assert (args.hybrid.estimator, args.hybrid.baseline, args.hybrid.divisor) == ("dr_grpo", "plain", "constant")
    assert (args.prefix.prefixed_per_group, args.prefix.keep, args.hybrid.clip_prefix) == (1, 0.2, True)
    assert args.algo.advantage.estimator == "dr_grpo"


@pytest.mark.parametrize("name", list(PRESETS))
def test_a_preset_sets_all_its_flags_and_passes_the_checks(name: str) -> None:
    row = PRESETS[name]
    args = resolved(**of_preset(name))
    assert (args.hybrid.estimator, args.hybrid.baseline) == (row.estimator, row.baseline)
    assert (args.hybrid.divisor, args.hybrid.clip_prefix) == (row.divisor, row.clip_prefix)
    assert (args.prefix.prefixed_per_group, args.prefix.keep) == (row.prefixed_per_group, row.keep)
    assert (args.hybrid.imitation, args.hybrid.imitation_mean) == (row.imitation, row.imitation_mean)
    assert (args.hybrid.imitation_coef, args.hybrid.imitation_end) == (row.imitation_coef, row.imitation_end)
    assert (args.hybrid.demonstration, args.hybrid.convex) == (row.demonstration, row.convex)
    assert (args.irl.lr, args.algo.kl.init_coef) == (row.irl_lr, row.kl)
    assert args.hybrid.imitation_gap == row.imitation_gap
    assert (args.hybrid.clip, args.hybrid.sampled, args.hybrid.rescue) == (row.clip, row.sampled, row.rescue)
    assert (args.hybrid.sft_steps, args.prefix.controller, args.prefix.span) == (
        row.sft_steps,
        row.controller,
        row.span,
    )
    assert (args.hybrid.sft_imitation, args.hybrid.sft_validate) == (row.sft_imitation, row.sft_validate)
    checks.check_flags(args)


@pytest.mark.parametrize(
    ("explicit", "message"),
    [
        ({"rollout__n_samples_per_prompt": 1, "rollout__batch_size": 16}, "compares the answers to one problem with"),
        (
            {"hybrid__preset": "uft", "rollout__n_samples_per_prompt": 1, "rollout__batch_size": 16},
            "preset uft compares the answers",
        ),
        ({"rollout__max_new_tokens": 1}, "rollout.max_new_tokens must be set to 2 or more"),
        ({"train__agent_func_path": "agent.py"}, "train.agent_func_path starts every row from its prompt"),
        ({"hybrid__preset": "sft"}, "the same one 4 times: set rollout.n_samples_per_prompt to 1"),
        ({"hybrid__preset": "luffy", "prefix__long_demonstrations": "truncate"}, "use drop"),
        ({"hybrid__preset": "chord_mu", "hybrid__imitation_coef": 1.5}, "at most 1 with hybrid.convex"),
        ({"hybrid__preset": "luffy", "hybrid__imitation_end": -0.1}, "give 0 or more"),
        ({"hybrid__preset": "chord_phi", "prefix__keep": 0.2}, "set prefix.keep to 1"),
        ({"hybrid__preset": "srft", "hybrid__estimator": "reinforce_baseline"}, "no advantages to normalise"),
        ({"hybrid__preset": "chord_mu", "hybrid__imitation_steps": 0}, "at least 1 step"),
        ({"hybrid__preset": "sft_then_rft", "hybrid__sft_steps": 0}, "hybrid.sft_steps 0 leaves none"),
        ({"hybrid__sft_steps": -2}, "-1 for half of the run"),
        ({"hybrid__sft_lr": 1e-5}, "need a supervised stage"),
        ({"hybrid__sft_imitation": "dft"}, "need a supervised stage"),
        ({"hybrid__preset": "sft_then_rft", "hybrid__sft_validate": -2}, "-1 (a tenth of the stage)"),
        (
            {"hybrid__preset": "sft_then_rft", "hybrid__sft_imitation": "luffy"},
            "choose one of nll, dft, phi, trust, f_tv",
        ),
        ({"hybrid__preset": "sft_then_rft", "hybrid__sft_imitation": "srft"}, "a supervised step has none of them"),
        ({"hybrid__preset": "sft_then_rft", "hybrid__sft_lr": 0.0}, "hybrid.sft_lr above 0"),
        ({"hybrid__preset": "sft_then_rft", "prefix__long_demonstrations": "truncate"}, "use drop"),
        (
            {"hybrid__preset": "hpt", "hybrid__imitation": "policy"},
            "train them with one of nll, dft, phi, trust, srft, f_tv",
        ),
        ({"hybrid__preset": "hpt", "prefix__prefixed_per_group": 1}, "set prefix.prefixed_per_group to 0"),
        ({"hybrid__preset": "hpt", "hybrid__gate": 4}, "right samples of 4, from 0 to one less"),
        ({"hybrid__preset": "hpt", "hybrid__imitation": "luffy"}, "no advantage for hybrid.imitation luffy"),
        (
            {"hybrid__preset": "relift", "algo__dynamic_filtering_enable": True},
            "drops the groups that failed before rescue buffer sees them",
        ),
        (
            {"reward__model_name_or_path": "some/model", "algo__dynamic_filtering_enable": True},
            "looks at the rewards of rollouts, which reward.model_name_or_path gives only after it",
        ),
        (
            {"prefix__controller": "on_failure", "algo__dynamic_filtering_enable": True},
            "drops the groups that failed before prefix.controller on_failure sees them",
        ),
        ({"hybrid__preset": "relift", "prefix__in_kl": True}, "leave it out with"),
        ({"hybrid__preset": "hpt", "hybrid__imitation": "srft"}, "weighs a demonstration by the policy's entropy"),
        ({"hybrid__preset": "hpt", "hybrid__imitation": "f_js"}, "or by a reference model, and one that"),
        (
            {"hybrid__preset": "sft_then_rft", "hybrid__sft_imitation": "f_kl"},
            "choose one of nll, dft, phi, trust, f_tv",
        ),
        (
            {"hybrid__preset": "sft_f", "train__colocate_actor_ref": True, "ref__num_gpus_per_node": 3}
            | {"rollout__n_samples_per_prompt": 1, "rollout__batch_size": 32},
            "leave ref.num_nodes and ref.num_gpus_per_node out",
        ),
        ({"hybrid__f_beta": -0.5}, "hybrid.f_beta is -0.5"),
        ({"hybrid__preset": "relift", "hybrid__buffer": 7}, "hybrid.buffer 7 is no multiple of train.batch_size 16"),
        ({"hybrid__preset": "hpt", "hybrid__buffer": 16}, "hybrid.buffer is the size of hybrid.rescue buffer"),
        ({"rollout__vllm_generate_batch_size": 2}, "a step would train on a part of a batch"),
        ({"hybrid__preset": "rft", "prefix__controller": "adaptive"}, "preset rft has none"),
        ({"hybrid__preset": "luffy", "prefix__controller": "staged"}, "preset luffy has none"),
        (
            {"hybrid__baseline": "all", "prefix__prefixed_per_group": 4, "prefix__controller": "on_failure"},
            "all are pr",
        ),
        (
            {"hybrid__preset": "uft", "prefix__controller": "gap"},
            "prefix.controller gap looks at the plain rows of a group",
        ),
        ({"prefix__controller": "spread"}, "different lengths, and there is 1: raise prefix.prefixed_per_group"),
        ({"hybrid__preset": "luffy", "prefix__controller": "gap"}, "preset luffy has none"),
        ({"hybrid__preset": "chord_mu", "hybrid__imitation_gap": "true"}, "set both (here schedule, with"),
        (
            {"prefix__controller": "gap", "hybrid__imitation_gap": "true"},
            "set both (here gap, with hybrid.imitation policy",
        ),
        (
            {"prefix__controller": "ratio", "algo__dynamic_filtering_enable": True},
            "drops the groups that failed before prefix.controller ratio sees them",
        ),
        ({"prefix__controller": "ratio", "prefix__tokens": 0}, "prefix.tokens is 0: give 1 to 3072"),
        ({"hybrid__preset": "rft", "prefix__trust": 1.0}, "preset rft has none"),
        ({"hybrid__preset": "luffy", "prefix__trust": 1.0}, "preset luffy has none"),
        ({"prefix__trust": -1.0}, "prefix.trust is -1.0: give a number above 0"),
        (
            {"prefix__trust": 1.0, "algo__dynamic_filtering_enable": True},
            "drops the groups that failed before prefix.trust sees them",
        ),
        ({"hybrid__preset": "opd"}, "preset opd learns from a teacher, and none is named"),
        ({"teacher__model": "some/model"}, "have no effect without a weight"),
        ({"teacher__steps": 5}, "have no effect without a weight"),
        ({**OPD, "teacher__steps": -2}, "-1 for half of it"),
        ({**OPD, "hybrid__sft_steps": 5, "teacher__steps": 5}, "supervised steps ask no teacher"),
        ({**OPD, "hybrid__sft_steps": -1, "teacher__steps": -1}, "supervised steps ask no teacher"),
        ({**OPD, "teacher__clamp": 0.0}, "teacher.clamp is above 0"),
        ({**OPD, "teacher__end": -0.1}, "teacher.coef and teacher.end are 0 or more"),
        ({**OPD, "teacher__model": "self"}, "would compare the policy with itself"),
        ({**OPD, "teacher__context": "demonstration", "teacher__template": "{prompt}"}, "hold {prompt} and {demonstr"),
        ({**IRFT, "contrast__tau": 0.0}, "contrast.tau, contrast.cap and contrast.beta are above 0"),
        ({**IRFT, "contrast__gamma": 1.5}, "contrast.gamma is above 0 and at most 1"),
        ({**IRFT, "contrast__snapshots": 0}, "contrast.snapshots 1 or more"),
        ({"contrast__stages": 5}, "have no effect without contrast.rule"),
        ({**IRFT, "prefix__prefixed_per_group": 2}, "holds one whole demonstration against the own samples"),
        (
            {"contrast__rule": "partition", "prefix__keep": 0.0},
            "holds one whole demonstration against the own samples",
        ),
        ({"hybrid__preset": "disc_ft"}, "with train.batch_size 32 and train.max_epochs 1"),
        ({**IRFT, "train__max_epochs": 2}, "with train.batch_size 32 and train.max_epochs 1"),
        ({**IRFT, "contrast__stages": 0}, "compares with an older policy, whose samples it takes"),
        ({**IRFT, "contrast__snapshots": 6}, "is more than contrast.stages 5"),
        ({**IRFT, "hybrid__sft_steps": 2}, "contrast.stages begin with the run"),
        (
            {**IRFT, "algo__dynamic_filtering_enable": True},
            "drops the groups that failed before contrast.rule pair sees",
        ),
        ({**IRL, "irl__lr": -1.0}, "irl.lr is -1.0: give a number above 0"),
        ({"irl__lr": 1.0}, "learns a reward from one whole demonstration and the own samples of its group"),
        ({**IRL, "rollout__n_samples_per_prompt": 2, "rollout__batch_size": 16}, "rollout.n_samples_per_prompt to 3"),
        ({**IRL, "prefix__prefixed_per_group": 2}, "prefix.prefixed_per_group to 1"),
        ({**IRL, "ds__ring_attn_size": 2}, "ds.tensor_parallel_size cut them"),
        ({**IRL, "ds__tensor_parallel_size": 2}, "ds.tensor_parallel_size cut them"),
        ({**IRL, "hybrid__sampled": "right"}, "hybrid.sampled right asks for a reward that is given"),
        (
            {**IRL, "hybrid__imitation": "nll", "prefix__keep": 1.0, "hybrid__imitation_gap": True}
            | {"prefix__controller": "gap"},
            "prefix.controller gap asks for a reward that is given",
        ),
        (
            {**IRL, "teacher__coef": 1.0, "teacher__model": "some/model", "teacher__on": "failed"},
            "teacher.on failed asks for a reward that is given",
        ),
        ({**IRL, "contrast__rule": "partition", "train__batch_size": 32}, "contrast.rule partition asks for a reward"),
        ({**IRL, "algo__dynamic_filtering_enable": True}, "algo.dynamic_filtering_enable asks for a reward"),
        ({**IRL, "reward__model_name_or_path": "some/model"}, "reward.model_name_or_path asks for a reward"),
        ({**OPD, "algo__dynamic_filtering_enable": True}, "drops the groups that failed before the teacher sees them"),
        (
            {**OPD, "train__colocate_all": True, "vllm__num_engines": 2, "teacher__num_nodes": 2},
            "put the teacher on the GPUs of the actor",
        ),
        (
            {"hybrid__preset": "sft", "rollout__n_samples_per_prompt": 1, "rollout__batch_size": 16}
            | {"teacher__coef": 1.0, "teacher__model": "m"},
            "nothing is sampled for a teacher to judge",
        ),
        ({"mask__share": 0.02}, "mask.share and mask.file have no effect without a score"),
        ({"mask__file": "retain.jsonl"}, "mask.share and mask.file have no effect without a score"),
        ({"mask__method": "snip", "mask__share": 0.0}, "mask.share is 0.0: a share of the weights lies between"),
        ({"mask__method": "snip", "mask__share": 1.0}, "mask.share is 1.0: a share of the weights lies between"),
        ({"mask__method": "snip", "mask__examples": 0}, "mask.examples is 0: give at least 1"),
        ({"mask__method": "snip", "mask__update_steps": 128}, "a mask is chosen once, before the first step"),
        ({"mask__method": "magnitude", "mask__file": "retain.jsonl"}, "magnitude looks at no examples"),
        ({"mask__method": "retain_freeze"}, "name the file with their prompts and demonstrations in --mask.file"),
        ({"mask__method": "snip", "ds__lora__rank": 8}, "mask.method with ds.lora.rank"),
        ({"mask__method": "snip", "actor__optim": "muon"}, "mask.method with actor.optim muon"),
        ({"mask__method": "snip", "ds__tensor_parallel_size": 2}, "mask.method with ds.tensor_parallel_size 2"),
        ({"prefix__stages": [0.5, 2.0]}, "prefix.stages is [0.5, 2.0]"),
        ({"prefix__span": 1.5}, "prefix.span is 1.5"),
    ],
)
def test_methods_whose_flags_do_not_fit_together_are_refused(explicit: dict, message: str) -> None:
    assert message in refusal(**explicit)


@pytest.mark.parametrize("method", [None, *SCORES])
def test_a_mask_with_what_its_score_needs_passes_and_has_a_share(method: str | None) -> None:
    file = {"mask__file": "retain.jsonl"} if method == "retain_freeze" else {}
    checks.check_flags(resolved(mask__method=method, **file))
    if method is not None:
        shares = [derived.mask_share(resolved(mask__method=method, **flag)) for flag in ({}, {"mask__share": 0.2})]
        assert shares == [0.1 if method == "retain_freeze" else 0.01, 0.2]


@pytest.mark.parametrize("name", list(PRESETS))
def test_the_authors_values_refuse_no_preset_for_a_flag_that_nobody_set(name: str) -> None:
    """Their estimator is for a baseline of plain rows, their dual clip for a clipped ratio; the rest is for all."""
    row, args = PRESETS[name], resolved(**of_preset(name), prefix__compat="official")
    checks.check_flags(args)
    assert args.hybrid.estimator == ("dr_grpo_prefix" if row.baseline == "plain" else row.estimator)
    assert args.actor.dual_clip == (3.0 if row.clip else None) and args.actor.entropy_coef == 0.001


def test_the_authors_values_look_at_what_the_user_set() -> None:
    args = resolved(prefix__compat="official", hybrid__baseline="all", hybrid__clip="false")
    assert args.hybrid.estimator == "dr_grpo" and args.actor.dual_clip is None


@pytest.mark.parametrize(
    ("explicit", "expected"),
    [
        ({}, 40),
        ({"train__batch_size": 8, "train__max_epochs": 3}, 240),
        ({"hybrid__preset": "relift"}, 50),  # 160 problems, 16 of them a supervised step
        ({"hybrid__preset": "relift", "hybrid__buffer": 48}, 49),  # three releases of three steps
        ({"hybrid__preset": "relift", "hybrid__buffer": 4, "train__batch_size": 4}, 180),  # one release a rollout step
    ],
)
def test_the_learning_rate_is_made_for_the_most_steps_that_a_run_can_have(explicit: dict, expected: int) -> None:
    """20 rollout steps of 8 problems x 4 rows, 32 rows, two optimizer steps."""
    assert derived.scheduled_steps(resolved(**explicit), 20) == expected


def test_a_schedule_spans_its_share_of_the_run_unless_its_steps_are_given() -> None:
    """uft: 0.6 of 500 steps, as published; and one hint for the whole group."""
    uft = resolved(hybrid__preset="uft")
    assert derived.make_sampler(uft, total_steps=500).schedule.total_steps == 300
    assert derived.make_sampler(uft, 500).controller.shared and derived.prefixed_rows(uft) == 4
    assert derived.make_sampler(resolved(prefix__total_steps=7), total_steps=500).schedule.total_steps == 7
    assert derived.make_sampler(resolved(), total_steps=500).schedule.total_steps == 500


def test_the_gap_may_weigh_whole_demonstrations_too() -> None:
    """What it has left of the prefixes is then what it leaves of the imitation term; lengths stay those of the row."""
    args = resolved(hybrid__preset="chord_mu", hybrid__imitation_gap="true", prefix__controller="gap")
    checks.check_flags(args)
    sampler = derived.make_sampler(args, 100)
    assert sampler.whole and sampler.controller.share == 1.0


def test_a_controller_has_the_numbers_of_its_flags() -> None:
    made = derived.make_sampler(resolved(prefix__goal=0.7, prefix__scores=3, prefix__tokens=20), 100).controller
    assert (made.settings.goal, made.settings.scores, made.settings.tokens) == (0.7, 3, 20)


@pytest.mark.parametrize(("sft_steps", "expected"), [(-1, 10), (6, 6)])
def test_the_supervised_stage_takes_half_of_the_run_or_what_is_given(sft_steps: int, expected: int) -> None:
    assert derived.sft_steps(resolved(hybrid__preset="sft_then_rft", hybrid__sft_steps=sft_steps), 21) == expected
    assert derived.sft_steps(resolved(), 21) == 0


@pytest.mark.parametrize(("steps", "every"), [(500, 25), (21, 2), (4, 2)])
def test_the_validation_loss_is_measured_ten_times_in_the_longest_stage(steps: int, every: int) -> None:
    """Halves of 250, 10 and 2 steps; never from one step to the next."""
    assert derived.sft_interval(resolved(hybrid__preset="sft_then_rft"), steps) == every
    asked = {"hybrid__preset": "sft_then_rft", "hybrid__sft_validate": 1}
    assert derived.sft_interval(resolved(**asked), steps) == 1
    assert derived.sft_interval(resolved(hybrid__sft_steps=3), steps) == 0  # of any other method: never


def test_a_tenth_of_the_demonstrations_is_held_out_and_a_step_of_them_at_the_most() -> None:
    """Steps of 8 problems x 4 rows; problems without one do not count."""
    args, bare = resolved(hybrid__preset="sft_then_rft"), SimpleNamespace(demonstrations=())
    counts = (2, 19, 20, 200, 5000)
    sets = [[SimpleNamespace(demonstrations=("y",))] * count + [bare] * 100 for count in counts]
    assert [derived.validation_size(args, problems) for problems in sets] == [1, 1, 2, 20, 32]
    assert derived.validation_size(resolved(hybrid__sft_steps=3), sets[3]) == 0


@pytest.mark.parametrize(
    ("preset", "whole"),
    [("prefix_rft", False), ("rft", False), ("uft", False)]
    + [(name, True) for name in ("sft", "luffy", "srft", "sft_then_rft", "relift", "hpt")],
)
def test_some_methods_train_demonstrations_to_their_end(preset: str, whole: bool) -> None:
    assert cuts.trains_whole(resolved(hybrid__preset=preset)) == whole


def test_the_weight_of_imitation_moves_by_a_cosine_and_stays() -> None:
    """chord_mu: 0.9 -> 0.05 over 200 steps: 0.475 half way; without imitation_steps over the whole run."""
    args = resolved(hybrid__preset="chord_mu", hybrid__imitation_steps=200)
    found = [derived.imitation_coef(args, step, total_steps=1000) for step in (0, 100, 200, 900)]
    assert found == pytest.approx([0.9, 0.475, 0.05, 0.05])
    args.hybrid.imitation_steps = None
    assert derived.imitation_coef(args, 500, total_steps=1000) == pytest.approx(0.475)


def test_the_weight_of_the_teacher_moves_linearly_and_ends_hard() -> None:
    """kdrl: 0.2 -> 0.002 over the run. opd_then_rft: 1 for half of it, then 0."""
    kdrl, opd = resolved(**of_preset("kdrl")), resolved(**of_preset("opd_then_rft"))
    assert [derived.teacher_coef(kdrl, step, 100) for step in (0, 50, 100)] == pytest.approx([0.2, 0.101, 0.0])
    assert [derived.teacher_coef(opd, step, 11) for step in (0, 4, 5, 10)] == [1.0, 1.0, 0.0, 0.0]
    opd.teacher.steps, opd.teacher.end = 4, 0.5
    assert [derived.teacher_coef(opd, step, 11) for step in range(5)] == [1.0, 0.875, 0.75, 0.625, 0.0]
    assert derived.teacher_coef(resolved(), 0, 11) == 0.0


def test_one_answer_is_enough_where_the_teacher_has_the_only_word() -> None:
    """With a reward stage behind it there is nothing to compare the answer with."""
    alone = {"rollout__n_samples_per_prompt": 1, "rollout__batch_size": 16}
    checks.check_flags(resolved(**OPD, **alone))
    assert "give 2 or more" in refusal(**{**OPD, **alone, "hybrid__preset": "opd_then_rft"})


def test_a_teacher_has_gpus_of_its_own_or_shares_the_actors() -> None:
    """The actor has 2, one engine of 1; teacher.num_nodes x num_gpus_per_node beside them."""
    given = {**OPD, "reward__remote_url": "math-verify"}
    assert derived.gpus_needed(resolved(**given)) == 2 + 1 + 2
    wider = resolved(**given, teacher__num_nodes=2, teacher__num_gpus_per_node=8)
    assert derived.gpus_needed(wider) == 2 + 1 + 16 and derived.data_parallel_ranks(wider, "teacher") == 16
    assert derived.gpus_needed(resolved(**given, train__colocate_all=True)) == 2
    assert derived.gpus_needed(resolved(**{**given, "hybrid__preset": "opsd", "teacher__model": "self"})) == 2 + 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("hybrid.estimator", "rloo"),
        ("hybrid.baseline", "all"),
        ("hybrid.divisor", "seq-mean"),
        ("hybrid.clip_prefix", False),
        ("prefix.prefixed_per_group", 0),
        ("prefix.keep", 0.0),
    ],
)
def test_a_flag_that_the_user_set_wins_over_the_preset_and_the_others_stay(name: str, value: object) -> None:
    """0 and False are values too: a test for truth would put the preset's back."""
    plain, changed = config.flatten_namespace(resolved()), config.flatten_namespace(resolved(**{name: value}))
    assert changed[name] == value != plain[name]
    follows = {name, "algo.advantage.estimator"}
    assert {key: plain[key] for key in plain if key not in follows} == {
        key: changed[key] for key in changed if key not in follows
    }


@pytest.mark.parametrize(("theirs", "ours"), [("dr_grpo", "dr_grpo"), ("group_norm", "grpo"), ("rloo", "rloo")])
def test_openrlhfs_name_of_an_estimator_is_understood(theirs: str, ours: str) -> None:
    args = resolved(algo__advantage__estimator=theirs)
    assert (args.hybrid.estimator, args.algo.advantage.estimator) == (ours, theirs)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("dr_grpo", "dr_grpo"),
        ("grpo", "group_norm"),
        ("rloo", "rloo"),
        ("reinforce_baseline", "reinforce_baseline"),
        ("dr_grpo_prefix", "dr_grpo"),
        ("grpo_prefix", "group_norm"),
    ],
)
def test_openrlhf_sees_the_nearest_of_its_own_estimators(ours: str, theirs: str) -> None:
    assert resolved(hybrid__estimator=ours).algo.advantage.estimator == theirs
    both = resolved(hybrid__estimator=ours, algo__advantage__estimator=theirs)
    assert (both.hybrid.estimator, both.algo.advantage.estimator) == (ours, theirs)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_every_estimator_of_ours_has_an_upstream_name(estimator: str) -> None:
    """The default "gae" would make OpenRLHF ask for a critic."""
    theirs = resolved(hybrid__estimator=estimator).algo.advantage.estimator
    assert theirs in ("dr_grpo", "group_norm", "rloo", "reinforce_baseline")


@pytest.mark.parametrize(("theirs", "ours"), [("token-mean", "token-mean"), ("seq-mean-token-mean", "seq-mean")])
def test_openrlhfs_name_of_a_divisor_is_understood(theirs: str, ours: str) -> None:
    assert resolved(actor__loss_agg_mode=theirs).hybrid.divisor == ours


@pytest.mark.parametrize(
    "explicit",
    [
        {"algo__advantage__estimator": "rloo", "hybrid__estimator": "grpo"},
        {"algo__advantage__estimator": "group_norm", "hybrid__estimator": "dr_grpo_prefix"},
        {"actor__loss_agg_mode": "token-mean", "hybrid__divisor": "constant"},
    ],
)
def test_two_names_with_different_values_are_refused(explicit: dict) -> None:
    assert "disagree: leave one of them out" in refusal(**explicit)


@pytest.mark.parametrize("estimator", ["gae", "reinforce", "flash_reinforce"])
def test_estimators_without_groups_are_refused(estimator: str) -> None:
    message = refusal(algo__advantage__estimator=estimator)
    assert f"{estimator} has no definition for groups with prefixed rows" in message
    assert "group_norm" in message and "--hybrid.estimator" in message


def test_an_unknown_way_to_aggregate_the_loss_is_refused() -> None:
    assert "seq-mean-token-sum has no definition" in refusal(actor__loss_agg_mode="seq-mean-token-sum")


@pytest.mark.parametrize(
    ("explicit", "message"),
    [
        # 8 x 4 = 32 rows
        ({"train__batch_size": 24}, "has 32 rows"),
        ({"train__batch_size": 64}, "has 32 rows"),
        ({"rollout__n_samples_per_prompt": 3}, "has 24 rows"),
        # 4 rows x 2 ranks = 8 a micro step
        ({"train__batch_size": 4}, "data-parallel ranks = 8"),
        ({"train__micro_batch_size": 16}, "data-parallel ranks = 32"),
        ({"actor__num_nodes": 4}, "data-parallel ranks = 32"),
        # 3 ranks without a micro-batch: 16 rows do not split by 3
        ({"actor__num_gpus_per_node": 3, "train__dynamic_batch_enable": True}, "data-parallel ranks = 3"),
        ({"train__micro_batch_size": 0}, "data-parallel ranks = 0"),
        ({"ds__ring_attn_size": 4}, "ds.ring_attn_size 4 spreads every row over that many GPUs, and the actor has 2"),
        (
            {"train__colocate_all": True, "vllm__tensor_parallel_size": 4},
            "vllm.tensor_parallel_size 4 spreads every engine over that many GPUs, and with train.colocate_all there "
            "are those of the actor, 2",
        ),
    ],
)
def test_batches_that_do_not_split_evenly_are_refused(explicit: dict, message: str) -> None:
    assert message in refusal(**explicit)


@pytest.mark.parametrize(
    "explicit",
    [
        {"train__batch_size": 32},
        {"train__batch_size": 8},
        {"actor__num_nodes": 2},  # 4 rows x 4 ranks = 16
        {"actor__num_gpus_per_node": 8, "ds__ring_attn_size": 2},  # 4 x 4 = 16
        {"actor__num_gpus_per_node": 8, "ds__ring_attn_size": 2},
        # dynamic batches count ranks alone: 16 rows over 16 ranks, micro-batch size unread
        {"actor__num_gpus_per_node": 16, "train__dynamic_batch_enable": True},
    ],
)
def test_batches_that_split_evenly_pass(explicit: dict) -> None:
    checks.check_flags(resolved(**explicit))


@pytest.mark.parametrize("prefixed", [5, -2])
def test_more_prefixed_rows_than_a_group_has_are_refused(prefixed: int) -> None:
    message = refusal(prefix__prefixed_per_group=prefixed)
    assert f"prefixed_per_group = {prefixed} does not fit a group of 4" in message and "choose 0 to 4" in message


def test_a_group_of_prefixed_rows_alone_needs_another_baseline() -> None:
    assert "set hybrid.baseline to all" in refusal(prefix__prefixed_per_group=4)
    checks.check_flags(resolved(prefix__prefixed_per_group=4, hybrid__baseline="all"))
    checks.check_flags(resolved(prefix__prefixed_per_group=3))


@pytest.mark.parametrize("estimator", ["dr_grpo_prefix", "grpo_prefix"])
def test_a_prefix_estimator_needs_the_plain_baseline(estimator: str) -> None:
    assert "needs hybrid.baseline plain" in refusal(hybrid__estimator=estimator, hybrid__baseline="all")
    checks.check_flags(resolved(hybrid__estimator=estimator))


@pytest.mark.parametrize(
    ("explicit", "message"),
    [
        ({"prefix__keep": 1.5}, "prefix.keep is 1.5"),
        ({"prefix__keep": -0.1}, "prefix.keep is -0.1"),
        ({"prefix__high": 0.5}, "prefix.low_start = 0.95 is above prefix.high = 0.5"),
        ({"prefix__low_end": 2.0}, "prefix.low_end is 2.0"),
        ({"prefix__total_steps": 0}, "prefix.total_steps is 0"),
        ({"prefix__min_tokens": 0}, "prefix.min_tokens is 0"),
        ({"eval__n_samples_per_prompt": 0}, "eval.n_samples_per_prompt is 0: give at least 1"),
        ({"verifier__workers": 0}, "verifier.workers is 0: give at least 1"),
        ({"run__check_weights_every": 0}, "run.check_weights_every is 0: give at least 1"),
        ({"train__num_episodes": 0}, "train.num_episodes is 0: give at least 1"),
        ({"ckpt__save_steps": 0}, "ckpt.save_steps is 0: give a number of steps, or -1 for never"),
        ({"eval__steps": 0}, "eval.steps is 0: give a number of steps, or -1 for never"),
        ({"actor__adam__lr": -1.0}, "actor.adam.lr is -1.0"),
        ({"actor__adam__lr": float("nan")}, "actor.adam.lr is nan"),
        ({"prefix__gradient_every": -1}, "give 0 (never) or more"),
        ({"ds__zero_stage": 2, "ds__grad_accum_dtype": "fp32"}, "DeepSpeed 0.19.6 ignores it (stage 2)"),
        ({"ds__zero_stage": 1, "ds__grad_accum_dtype": "fp32"}, "cannot be looked at (stage 1)"),
        ({"ds__param_dtype": "fp16"}, "ds.param_dtype is fp16: OpenRLHF starts the engines in bf16"),
        ({"actor__fused_head": "on", "ds__use_liger_kernel": True}, "which brings a head of its own"),
        (
            {"actor__fused_head": "on", "ds__lora__rank": 8, "ds__lora__target_modules": ["q_proj", "lm_head"]},
            "an adapter on lm_head",
        ),
        ({"ds__load_in_4bit": True}, "ds.load_in_4bit: the engines sample with bf16 weights"),
        ({"ds__zero_stage": 0}, "choose 1, 2 or 3"),
        (
            {"algo__advantage__is_correction_level": "seq", "algo__advantage__is_correction_mode": "clip"},
            "is_correction_mode clip is for ratios of tokens",
        ),
        (
            {"algo__advantage__is_correction_level": "token", "algo__advantage__is_correction_gating": "tv"},
            "is_correction_gating tv is bounded from above alone",
        ),
        ({"actor__dual_clip": 0.5}, "actor.dual_clip is 0.5: give a number above 1"),
        ({"hybrid__preset": "luffy", "actor__dual_clip": 3.0}, "no effect with hybrid.clip false"),
        ({"prefix__in_kl": True}, "no effect without algo.kl.use_loss"),
        ({"prefix__in_entropy": True}, "no effect without actor.entropy_coef"),
        ({"hybrid__imitation_coef": 0.5}, "no effect with hybrid.imitation policy"),
        ({"reward__error_limit": 1.5}, "a share lies in [0, 1]"),
        ({"reward__timeout": 0}, "reward.timeout must be above 0"),
        ({"actor__policy_loss_type": "gspo"}, "gspo has no definition for prefix tokens"),
        ({"vllm__num_engines": 0}, "at least 1 vLLM engine"),
    ],
)
def test_settings_without_meaning_or_support_are_refused(explicit: dict, message: str) -> None:
    assert message in refusal(**explicit)


def test_another_policy_loss_is_fine_without_prefixed_rows() -> None:
    checks.check_flags(resolved(actor__policy_loss_type="gspo", hybrid__preset="rft"))


def test_the_sampler_is_what_the_flags_describe() -> None:
    """Linear 0.8 -> 0.2 in 10 steps: low(5) = 0.5. High stays at 0.9."""
    args = resolved(
        prefix__low_start=0.8,
        prefix__low_end=0.2,
        prefix__high=0.9,
        prefix__shape="linear",
        prefix__min_tokens=7,
        prefix__prefixed_per_group=2,
        train__seed=5,
    )
    sampler = derived.make_sampler(args, total_steps=10)
    assert sampler.schedule.window(5) == pytest.approx((0.5, 0.9))
    assert (sampler.group_size, sampler.prefixed_per_group, sampler.min_tokens, sampler.seed) == (4, 2, 7, 5)


@pytest.mark.parametrize("text", ["yes", "1", "", "none"])
def test_a_boolean_is_true_or_false(text: str) -> None:
    assert flags.boolean("true") is True and flags.boolean("False") is False
    with pytest.raises(argparse.ArgumentTypeError):
        flags.boolean(text)


def files(**named: object) -> SimpleNamespace:
    flat = {
        "actor.model_name_or_path": "org/model",
        "data.prompt_dataset": "org/data",
        "eval.dataset": None,
        "train.agent_func_path": None,
        "reward.remote_url": None,
        "teacher.model": None,
        "teacher.coef": 1.0,
        "mask.file": None,
    }
    return config.nested({**flat, **{name.replace("__", "."): value for name, value in named.items()}})


def test_files_that_exist_and_hub_names_pass(tmp_path: Path) -> None:
    data = tmp_path / "train.jsonl"
    data.touch()
    named = {"data__prompt_dataset": f"{data}, org/other", "reward__remote_url": ["http://localhost:1/x"]}
    checks.check_files(files(**named, actor__model_name_or_path="gpt2"))


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("data.prompt_dataset", "./absent.jsonl"),
        ("data.prompt_dataset", "org/data,data/absent.jsonl"),  # one slash, but the suffix of a file
        ("actor.model_name_or_path", "/nowhere/model"),
        ("eval.dataset", "a/b/c"),
        ("mask.file", "absent.jsonl"),
        ("teacher.model", "/nowhere/teacher"),
        ("reward.remote_url", ["absent/reward.py"]),
    ],
)
def test_a_local_file_that_is_missing_is_named(flag: str, value: object) -> None:
    with pytest.raises(UserError, match=f"{flag}: there is no"):
        checks.check_files(files(**{flag: value}))


@pytest.mark.parametrize("flag", ["actor.model_name_or_path", "data.prompt_dataset"])
def test_model_and_data_must_be_named(flag: str) -> None:
    with pytest.raises(UserError, match=f"{flag} is not set"):
        checks.check_files(files(**{flag: None}))


def test_compat_official_sets_what_the_authors_code_does_and_yields_to_the_user() -> None:
    values = preset_flags.preset_values({"prefix.compat": "official", "hybrid.preset": "prefix_rft"})
    assert (values["hybrid.estimator"], values["actor.dual_clip"], values["actor.entropy_coef"]) == (
        "dr_grpo_prefix",
        3.0,
        0.001,
    )
    assert values["prefix.in_entropy"] is True and values["hybrid.baseline"] == "plain"
    assert values["prefix.stop_before_answer"] is False and resolved().prefix.stop_before_answer is True
    own = preset_flags.preset_values({"prefix.compat": "official", "actor.dual_clip": 2.0})
    assert "actor.dual_clip" not in own
    usual = preset_flags.preset_values({})
    assert usual["prefix.in_entropy"] is False and "actor.dual_clip" not in usual


def test_gspo_averages_rows_whatever_the_preset_says() -> None:
    assert resolved(actor__policy_loss_type="gspo", hybrid__preset="rft").hybrid.divisor == "seq-mean"
    assert "set hybrid.divisor to seq-mean" in refusal(
        actor__policy_loss_type="gspo", hybrid__preset="rft", hybrid__divisor="constant"
    )


@pytest.mark.parametrize("name", ["keep", "demonstration_fraction"])
@pytest.mark.parametrize("share", [-0.01, 1.01])
def test_a_share_lies_between_0_and_1(name: str, share: float) -> None:
    assert refusal(**{f"prefix__{name}": share}) == f"prefix.{name} is {share}: a share lies in [0, 1]"
    checks.check_flags(resolved(prefix__demonstration_fraction=0.0, prefix__keep=1.0))


def test_muon_does_not_sleep_at_zero_3() -> None:
    sleeping = {"actor__optim": "muon", "ds__enable_sleep": True}
    assert "puts no state but FusedAdam's on the host" in refusal(**sleeping)
    for change in ({"ds__zero_stage": 2}, {"actor__optim": "adam"}, {"ds__enable_sleep": False}):
        checks.check_flags(resolved(**sleeping | change))


def test_an_attention_that_nobody_has_checked_is_refused() -> None:
    assert "flash-attn-4 is a beta" in refusal(ds__attn_implementation="flash_attention_4")
    checks.check_flags(resolved(ds__attn_implementation="flash_attention_3"))
