"""The file of a comparison becomes runs; what could not be compared is refused."""

from pathlib import Path

import pytest
import yaml

from openrlhf_prefix.comparison.plan import Plan, Run, rate, read_plan
from openrlhf_prefix.comparison.summary import choose_rate
from openrlhf_prefix.errors import UserError

FILE = {
    "train": "base.yaml",
    "tasks": {"chains": {"tune": "tune.jsonl", "sets": {"heldout": "heldout.jsonl"}}},
    "methods": {"sft": {"rollout": {"n_samples_per_prompt": 1}}, "half": {"hybrid.preset": "prefix_rft"}, "rft": None},
    "learning_rates": ["1e-4", 2.0e-4],
    "seeds": [1, 2, 3],
    "flags": {"ckpt": {"save_steps": -1}},
}


def read(tmp_path: Path, **changes: object) -> Plan:
    """The file with some keys changed, or left out where the value is None."""
    content = {key: value for key, value in {**FILE, **changes}.items() if value is not None}
    path = tmp_path / "compare.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return read_plan(path)


def test_every_method_is_tuned_on_the_whole_grid_with_a_seed_of_its_own(tmp_path: Path) -> None:
    """3 methods x 2 rates, one seed; 3 methods x 3 seeds; the base model."""
    plan = read(tmp_path)
    names = [run.name for run in plan.tuning()]
    assert names[:3] == ["chains-sft-lr1e-4-tune0", "chains-sft-lr2e-4-tune0", "chains-half-lr1e-4-tune0"]
    assert len(names) == 6 and plan.finals() == 9
    assert [run.name for run in plan.bases()] == ["chains-base"]
    assert [run.name for run in plan.final("chains", "rft", 2e-4)] == [f"chains-rft-lr2e-4-seed{n}" for n in (1, 2, 3)]


def test_flags_may_be_nested_and_the_label_is_the_preset_unless_it_is_given(tmp_path: Path) -> None:
    plan = read(tmp_path)
    assert plan.methods == {
        "sft": {"hybrid.preset": "sft", "rollout.n_samples_per_prompt": 1},
        "half": {"hybrid.preset": "prefix_rft"},
        "rft": {"hybrid.preset": "rft"},
    }
    assert plan.flags == {"ckpt.save_steps": -1} and plan.learning_rates == [1e-4, 2e-4]


def test_a_task_may_compare_some_of_the_methods(tmp_path: Path) -> None:
    """All 3 on the first task, 2 on the other: 5 x 2 rates to tune, 5 x 3 seeds; in the order of the file."""
    other = {"tune": "t.jsonl", "sets": {"heldout": "h.jsonl"}, "methods": ["rft", "sft"]}
    plan = read(tmp_path, tasks={**FILE["tasks"], "other": other})
    assert plan.compared("other") == ["sft", "rft"] and len(plan.compared("chains")) == 3
    assert len(plan.tuning()) == 10 and plan.finals() == 15


def test_a_task_may_have_a_grid_of_its_own(tmp_path: Path) -> None:
    """2 rates on the first task, 1 on the second (nothing to tune), 3 on the third: 3 x 2 + 3 x 3 runs."""
    sets = {"tune": "t.jsonl", "sets": {"heldout": "h.jsonl"}}
    one, three = {**sets, "learning_rates": ["3e-4"]}, {**sets, "learning_rates": ["1e-4", "3e-4", 0.001]}
    plan = read(tmp_path, tasks={**FILE["tasks"], "one": one, "three": three})
    assert (plan.grid("chains"), plan.grid("one"), plan.grid("three")) == ([1e-4, 2e-4], [3e-4], [1e-4, 3e-4, 1e-3])
    assert [run.task for run in plan.tuning()] == 6 * ["chains"] + 9 * ["three"]
    assert choose_rate(plan, {}, "one", "sft") == 3e-4 and choose_rate(plan, {}, "three", "sft") is None


def test_a_single_learning_rate_needs_no_tuning(tmp_path: Path) -> None:
    assert read(tmp_path, learning_rates=[3e-4], tuning_seed=1).tuning() == []


@pytest.mark.parametrize(
    ("lr", "text"), [(1e-4, "1e-4"), (1.5e-3, "1.5e-3"), (0.001, "1e-3"), (2.0, "2e+0"), (0.25, "2.5e-1")]
)
def test_a_learning_rate_is_written_as_people_do(lr: float, text: str) -> None:
    assert rate(lr) == text and Run("final", "t", "m", lr, 1).name == f"t-m-lr{text}-seed1"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"seeds": [1, 2]}, r"seeds is \[1, 2\]: .* at least 3; set few_seeds"),
        ({"seeds": [0, 1, 2]}, "tuning_seed 0 is one of the seeds"),
        ({"seeds": [1, 2, 2]}, "each once"),
        ({"learning_rates": []}, "learning_rates is .*: give at least one"),
        ({"learning_rates": ["fast"]}, "'fast', which is no number"),
        ({"learning_rates": 3e-4}, "learning_rates must be a list of numbers, not 0.0003"),
        ({"ks": [1, 65]}, r"1 <= k <= samples 64: ks is \[1, 65\]"),
        ({"sedes": [1]}, "unknown key in .*compare.yaml: 'sedes'; choose among train, tasks"),
        ({"methods": None}, "has no methods"),
        ({"methods": ["sft"]}, "methods must be a mapping"),
        ({"tasks": {"chains": {"tune": "t.jsonl"}}}, "tasks.chains has no sets"),
        ({"tasks": {"chains": {"tune": "t.jsonl", "sets": "h.jsonl"}}}, "sets must be a mapping"),
        (
            {"tasks": {"chains": {"tune": "t.jsonl", "sets": {"heldout": "h.jsonl"}, "methods": ["dpo"]}}},
            "unknown method in tasks.chains.methods: 'dpo'",
        ),
        (
            {"tasks": {"chains": {"tune": "t.jsonl", "sets": {"heldout": "h.jsonl"}, "learning_rates": [1e-4, 1e-4]}}},
            "tasks.chains.learning_rates is .* each once",
        ),
        (
            {"tasks": {"chains": {"tune": "t.jsonl", "sets": {"heldout": "h.jsonl"}, "learning_rates": "fast"}}},
            "tasks.chains.learning_rates must be a list of numbers, not 'fast'",
        ),
        ({"panels": {"all": ["sft", "dpo"]}}, "unknown method in panels.all: 'dpo'; choose among sft, half, rft"),
    ],
)
def test_what_cannot_be_compared_is_refused(tmp_path: Path, changes: dict, expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        read(tmp_path, **changes)


def test_fewer_seeds_are_allowed_on_request(tmp_path: Path) -> None:
    assert read(tmp_path, seeds=[1], few_seeds=True).finals() == 3
