"""The command lines of a comparison: valid before anything starts, equal in steps, the same for the same file."""

import json
from pathlib import Path

import pytest

pytest.importorskip("openrlhf")

from openrlhf_prefix import cli  # noqa: E402
from openrlhf_prefix.comparison.commands import check_jobs, make_job, reward_file  # noqa: E402
from openrlhf_prefix.comparison.main import alone  # noqa: E402
from openrlhf_prefix.comparison.plan import Run, read_plan  # noqa: E402
from openrlhf_prefix.errors import UserError  # noqa: E402

ROOT = Path(__file__).parents[3]
BASE = """
actor: {model_name_or_path: model, num_gpus_per_node: 1}
data: {prompt_dataset: train.jsonl, apply_chat_template: true, max_samples: 64}
rollout: {batch_size: 4, n_samples_per_prompt: 8, micro_batch_size: 8, max_new_tokens: 48, stop_strings: ["a b"]}
train: {batch_size: 32, micro_batch_size: 8}
vllm.num_engines: 1
eval.temperature: 0.7
"""
COMPARE = """
train: base.yaml
tasks: {chains: {tune: tune.jsonl, sets: {heldout: heldout.jsonl, longer: longer.jsonl}}}
learning_rates: [1.0e-4, 2.0e-4]
seeds: [1, 2, 3]
samples: 8
ks: [1, 8]
problems: 5
flags: {prefix.gradient_every: 0}
methods:
  prefix_rft:
  sft: {rollout: {n_samples_per_prompt: 1, batch_size: 32}, train.num_episodes: 8}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """64 problems: 16 steps of 4 groups of 8 rows, or 8 times 2 steps of 32 demonstrations."""
    monkeypatch.chdir(tmp_path)
    Path("model").mkdir()
    row = {"prompt": "1+2", "answer": "3", "demonstrations": ["1+2=3\n\\boxed{3}"]}
    Path("train.jsonl").write_text("".join(json.dumps({**row, "id": str(n)}) + "\n" for n in range(70)))
    for name in ("tune", "heldout", "longer"):
        Path(f"{name}.jsonl").write_text(json.dumps(row) + "\n")
    Path("base.yaml").write_text(BASE)
    Path("compare.yaml").write_text(COMPARE)
    return tmp_path


def jobs(changed: str = COMPARE) -> list:
    Path("compare.yaml").write_text(changed)
    return check_jobs(read_plan(Path("compare.yaml")), Path("runs"))


def flag(words: tuple[str, ...], name: str) -> str:
    """Value of the last occurrence of a flag, which is the one that counts."""
    return words[len(words) - words[::-1].index(f"--{name}")]


def test_every_training_has_the_same_number_of_steps(folder: Path) -> None:
    """1 base, 2 methods x 2 rates, 2 methods x 3 seeds; 16 optimizer steps each."""
    made = jobs()
    assert len(made) == 1 + 4 + 6 and {job.steps for job in made[1:]} == {16}


def test_a_tuning_run_is_evaluated_on_its_own_problems_and_a_final_one_on_the_held_out_sets(folder: Path) -> None:
    base, tune, final = jobs()[0], jobs()[1], jobs()[-1]
    assert flag(tune.train, "eval.dataset") == "tune.jsonl" and tune.evaluate is None
    assert flag(tune.train, "eval.steps") == "-1" and flag(tune.train, "actor.adam.lr") == "0.0001"
    assert flag(final.train, "eval.dataset") == "heldout.jsonl" and flag(final.train, "train.seed") == "3"
    assert final.evaluate[:4] == ("evaluate", str(final.folder / "export"), "heldout.jsonl", "longer.jsonl")
    assert base.train is None and base.evaluate[1] == str(folder / "model")
    for evaluate in (base.evaluate, final.evaluate):
        assert [flag(evaluate, name) for name in ("samples", "temperature", "max_samples")] == ["8", "0.7", "5"]
        assert flag(evaluate, "stop_strings") == "a b"


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("apply_chat_template: true", ()),
        ("apply_chat_template: false", ("--no_chat_template",)),
        ("apply_chat_template: false, input_template: 'Q {}!'", ("--input_template", "--no_chat_template")),
    ],
)
def test_the_model_is_asked_as_it_was_trained(folder: Path, flags: str, expected: tuple[str, ...]) -> None:
    Path("base.yaml").write_text(BASE.replace("apply_chat_template: true", flags))
    words = jobs()[-1].evaluate
    assert tuple(word for word in words if word.endswith("_template")) == expected
    assert "--input_template" not in expected or flag(words, "input_template") == "Q {}!"


def test_the_flags_of_a_method_and_of_all_runs_reach_the_training(folder: Path) -> None:
    sft = next(job for job in jobs() if job.run.method == "sft")
    assert [flag(sft.train, name) for name in ("hybrid.preset", "rollout.batch_size", "prefix.gradient_every")] == [
        "sft",
        "32",
        "0",
    ]


def test_what_it_cost_to_sample_the_training_data_goes_with_every_training(folder: Path) -> None:
    assert {job.sampled for job in jobs()} == {(0, 0.0)}
    Path("train.sampling.json").write_text('{"tokens_generated": 900, "seconds": 2.5}')
    found = jobs()
    assert {job.sampled for job in found if job.train} == {(900, 2.5)}
    assert {job.sampled for job in found if not job.train} == {(0, 0.0)}


def test_the_same_file_gives_the_same_settings_and_another_flag_gives_others(folder: Path) -> None:
    before, again = jobs(), jobs()
    assert [job.settings for job in before] == [job.settings for job in again]
    other = jobs(COMPARE.replace("gradient_every: 0", "gradient_every: 5"))
    assert other[0].settings == before[0].settings  # the base model is not trained
    assert all(new.settings != old.settings for new, old in zip(other[1:], before[1:], strict=True))
    more = jobs(COMPARE.replace("problems: 5", "problems: 6"))
    assert [new.settings == old.settings for new, old in zip(more, before, strict=True)] == [False] + [True] * 4 + [
        False
    ] * 6


def test_the_rate_and_the_seed_belong_to_the_settings(folder: Path) -> None:
    plan = read_plan(Path("compare.yaml"))
    runs = [Run("final", "chains", "sft", lr, seed) for lr, seed in ((1e-4, 1), (2e-4, 1), (1e-4, 2))]
    assert len({make_job(plan, run, Path("runs")).settings for run in runs}) == 3


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("prefix_rft:\n", "magic:\n", "chains-base: hybrid.preset is 'magic': choose one of prefix_rft"),
        ("  sft: {rollout", "  sft: {hybrid.preset: dpo, rollout", "sft-lr1e-4-tune0: hybrid.preset is 'dpo'"),
        ("prefix.gradient_every", "prefix.gradient_evry", "did you mean prefix.gradient_every"),
        ("num_episodes: 8", "num_episodes: 4", "differ in optimizer steps (chains prefix_rft 16, chains sft 8)"),
        ("n_samples_per_prompt: 1, ", "", "differ in optimizer steps (chains prefix_rft 16, chains sft 0)"),
        ("longer: longer.jsonl", "longer: further.jsonl", "tasks.chains: longer: there is no 'further.jsonl'"),
        (
            "longer: longer.jsonl",
            "longer: longer.jsonl@test",
            "tasks.chains: longer: longer.jsonl@test: @ chooses a f",
        ),
        ("tune: tune.jsonl", "tune: other.jsonl", "tasks.chains: tune: there is no 'other.jsonl'"),
        ("train: base.yaml", "train: bass.yaml", "there is no config file 'bass.yaml'"),
        ("seeds: [1, 2, 3]", "seeds: [1]", "at least 3"),
    ],
)
def test_a_mistake_is_one_line_and_exit_2_before_anything_starts(
    folder: Path, capsys: pytest.CaptureFixture, old: str, new: str, expected: str
) -> None:
    assert old in COMPARE
    Path("compare.yaml").write_text(COMPARE.replace(old, new))
    with pytest.raises(SystemExit) as ended:
        cli.main(["compare", "--config", "compare.yaml", "--folder", "out"])
    said = capsys.readouterr().err.strip()
    assert ended.value.code == 2 and expected in said and len(said.splitlines()) == 1
    assert not Path("out").exists()


def test_a_report_without_results_is_refused(folder: Path, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["compare", "--config", "compare.yaml", "--folder", "out", "--report_only"])
    assert ended.value.code == 2 and "out holds no results.jsonl" in capsys.readouterr().err


def test_a_folder_has_one_comparison_at_a_time(tmp_path: Path) -> None:
    with alone(tmp_path), pytest.raises(UserError, match="a comparison is running in"), alone(tmp_path):
        pass
    with alone(tmp_path):
        pass


@pytest.mark.parametrize("name", ["compare.yaml", "ablations.yaml", "imperfect.yaml", "small_steps.yaml"])
def test_the_shipped_files_are_valid(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their task and model are stood in for by files of the same names."""
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    monkeypatch.chdir(tmp_path)
    plan = read_plan(Path("configs") / name)
    row = json.dumps({"prompt": "1+2", "answer": "3", "demonstrations": ["1+2=3\n\\boxed{3}"]}) + "\n"
    for task in plan.tasks.values():
        trained = task.flags.get("data.prompt_dataset", Path(task.tune).with_name("train.jsonl"))
        for path in [task.tune, *task.sets.values(), trained]:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            Path(path).write_text(row * 2048)
        (Path(task.tune).parents[1] / "model").mkdir(exist_ok=True)
    made = check_jobs(plan, tmp_path / "runs")
    assert {job.steps for job in made if job.train} == {20} and len(plan.seeds) >= 3


def test_models_are_judged_as_they_were_trained() -> None:
    assert reward_file(None) is None and reward_file(["math-verify"]) is None
    assert reward_file(["mine/reward.py"]) == "mine/reward.py"
    with pytest.raises(UserError, match=r"http://judge/score\?\.\.\.: a comparison's models are judged"):
        reward_file(["http://judge/score?key=secret"])
