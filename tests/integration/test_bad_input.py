"""Every mistake of a user ends in one clear sentence on stderr and exit code 2, before Ray starts or a model loads."""

import json
import sys

import pytest

pytest.importorskip("openrlhf")

import torch  # noqa: E402
from command_line import flags_of_a_run  # noqa: E402

from openrlhf_prefix import cli  # noqa: E402
from openrlhf_prefix.data.tiny_model import WarmUp, make_model  # noqa: E402

GOOD = {"prompt": "1+2", "answer": "3", "demonstrations": ["1+2=3\n\\boxed{3}"]}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("model") / "tiny", recipe=WarmUp(steps=1), progress=False)


@pytest.fixture
def base(model, tmp_path):
    """A command line that would train if nothing were wrong with it."""
    data = write(tmp_path / "data.jsonl", [GOOD] * 4)
    return {name: str(value) for name, value in flags_of_a_run(model, data, tmp_path / "run").items()}


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def refuse(capsys, flags, *more):
    """Runs `train`, expects exit code 2 and one line; returns that line. Ray must not have been started."""
    argv = [token for name, value in flags.items() for token in (f"--{name}", *value.split())]
    with pytest.raises(SystemExit) as ended:
        cli.main(["train", *argv, *map(str, more)])
    said = capsys.readouterr().err.strip()
    assert ended.value.code == 2
    assert len(said.splitlines()) == 1, said
    assert "ray" not in sys.modules or not sys.modules["ray"].is_initialized()
    return said


@pytest.mark.parametrize(
    ("flag", "value", "expected"),
    [
        ("actor.adam.l", "1e-6", "did you mean actor.adam.lr"),
        ("prefix.kep", "0.2", "did you mean prefix.keep"),
        ("actor.adam.lr", "fast", "invalid float value"),
        ("prefix.prefixed_per_group", "9", "does not fit a group of 8"),
        ("prefix.low_start", "1.5", "a ratio lies in [0, 1]"),
        ("prefix.keep", "-0.1", "a share lies in [0, 1]"),
        ("prefix.high", "0.5", "prefix.low_start = 0.95 is above prefix.high = 0.5"),
        ("prefix.total_steps", "0", "at least 1 step"),
        ("prefix.shape", "sine", "cosine"),
        ("hybrid.preset", "magic", "prefix_rft, rft"),
        ("data.prompt_dataset", "no/such/file.jsonl", "there is no 'no/such/file.jsonl'"),
        ("actor.model_name_or_path", "./no-model", "there is no './no-model'"),
        ("reward.remote_url", "./no_reward.py", "there is no './no_reward.py'"),
        ("rollout.batch_size", "3", "no multiple of train.batch_size"),
        ("train.micro_batch_size", "5", "no multiple of train.micro_batch_size"),
        ("data.max_len", "100000", "positions"),
        ("data.max_len", "50", "prompt of"),
        ("algo.advantage.estimator", "gae", "--hybrid.estimator"),
        ("train.async_enable", "true", "train.async_enable is not supported"),
        ("prefix.demonstration_fraction", "1.5", "prefix.demonstration_fraction is 1.5: a share lies in [0, 1]"),
        ("prefix.demonstration_fraction", "0", "4 problems whose demonstrations are withheld"),
        ("prefix.long_demonstrations", "cut", "refuse, drop, truncate"),
        ("data.long_prompts", "truncate", "refuse, drop"),
        ("rollout.n_samples_per_prompt", "eight", "invalid int value"),
        ("ds.ring_attn_size", "0", "OpenRLHF refuses these flags"),
        ("hybrid.plugin", "./no_method.py", "hybrid.plugin: there is no file"),
        ("hybrid.sft_steps", "1", "of a run of 1 steps leaves none to one of the two stages"),
        ("prefix.controller", "magic", "schedule, uniform, staged"),
    ],
)
def test_a_wrong_flag_is_named_with_its_mend(capsys, base, flag, value, expected):
    assert expected in refuse(capsys, {**base, flag: value})


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([], "holds no rows"),
        ([GOOD, {**GOOD, "prompt": ""}], "row 2 has no prompt"),
        ([GOOD, GOOD, {"prompt": "1+2", "demonstrations": []}], "row 3 has no answer"),
        ([{**GOOD, "demonstrations": ["3"]}], "row 1: demonstration 0 has 1 tokens"),
        ([{**GOOD, "demonstrations": [""]}], "row 1: demonstration 0 is empty"),
        ([{**GOOD, "demonstrations": {"text": "1+2=3"}}], "must be a list of strings"),
        ([{**GOOD, "demonstrations": ["1+2=3\n" * 30]}], "more than a response may have"),
        ([{**GOOD, "demonstrations": []}] * 4, "no demonstration in any row"),
        ([{**GOOD, "demonstrations": "1+2=3"}], "fewer than rollout.batch_size"),  # a column of one text is fine
        ([{"problem": "1+2", "solution": "\\boxed{3}", "answer": "3"}] * 4, "openrlhf-prefix data import math"),
        ([GOOD] * 2, "fewer than rollout.batch_size"),
        ([{**GOOD, "id": "a"}, {**GOOD, "id": "a"}], "row 2 has the id 'a' of row 1"),
        ([{**GOOD, "demonstrations": ["\\boxed{3}"]}] * 4, "4 demonstrations that begin with their answer"),
    ],
)
def test_a_row_that_cannot_be_used_is_named_with_file_and_number(capsys, base, tmp_path, rows, expected):
    data = write(tmp_path / "bad.jsonl", rows)
    said = refuse(capsys, {**base, "data.prompt_dataset": str(data)})
    assert expected in said and "bad.jsonl" in said


@pytest.mark.parametrize("preset", ["luffy", "sft_then_rft", "relift", "hpt", "srft", "uft", "disc_ft", "irl_reward"])
def test_a_method_of_demonstrations_on_data_without_any_is_refused(capsys, base, tmp_path, preset):
    data = write(tmp_path / "bare.jsonl", [{**GOOD, "demonstrations": []}] * 8)
    said = refuse(capsys, {**base, "data.prompt_dataset": str(data)}, "--hybrid.preset", preset)
    assert "no demonstration in any row" in said and f"preset {preset} needs them" in said


def test_a_reward_that_is_learnt_needs_no_answers_but_those_of_an_evaluation(capsys, base, tmp_path):
    """The reward file is not even tried. Held-out problems have answers, or are refused."""
    rows = [{"prompt": "1+2", "demonstrations": ["1+2=3\n\\boxed{3}"]}] * 4
    (tmp_path / "reward.py").write_text("def reward_func(queries, prompts, labels):\n    raise SystemExit(1)\n")
    bare = {**base, "data.prompt_dataset": str(write(tmp_path / "bare.jsonl", rows)), "hybrid.preset": "irl_reward"}
    bare |= {"reward.remote_url": str(tmp_path / "reward.py"), "ref.num_gpus_per_node": "1"}
    cli.main(["train", *(token for name, value in bare.items() for token in (f"--{name}", value)), "--dry_run"])
    assert "4 problems, 4 with demonstrations" in capsys.readouterr().out
    assert "row 1 has no answer" in refuse(capsys, {**bare, "eval.dataset": bare["data.prompt_dataset"]})
    assert "row 1 has no answer" in refuse(capsys, {**bare, "hybrid.preset": "luffy"})


def test_a_validation_set_must_leave_demonstrations_to_train(capsys, base, tmp_path):
    data = write(tmp_path / "few.jsonl", [GOOD] + [{**GOOD, "demonstrations": []}] * 7)
    said = refuse(capsys, {**base, "data.prompt_dataset": str(data)}, "--hybrid.preset", "sft_then_rft")
    assert "holds out a tenth" in said and "has 1: set it to 0" in said


@pytest.mark.parametrize("more", [(), ("--train.num_episodes", 2, "--hybrid.sft_validate", 0)])
@pytest.mark.parametrize("asked", ["on_failure gives a prefix", "prefix.trust draws"])
def test_what_looks_at_earlier_visits_needs_a_second_visit(capsys, base, tmp_path, asked, more):
    """One episode visits no problem twice, and of two the supervised stage takes the first, if nothing ends it."""
    data = write(tmp_path / "once.jsonl", [GOOD] * 8)
    flags = ("--hybrid.preset", "prefix_after_sft", *more)
    if "trust" in asked:
        flags += ("--prefix.controller", "schedule", "--prefix.trust", 1)
    said = refuse(capsys, {**base, "data.prompt_dataset": str(data)}, *flags)
    assert asked in said and "visits none twice: raise train.num_episodes" in said


def test_a_broken_line_of_json_is_named_with_its_file_and_row(capsys, base, tmp_path):
    data = tmp_path / "broken.jsonl"
    data.write_text(json.dumps(GOOD) + "\n{not json\n")
    assert "broken.jsonl: row 2 is not JSON" in refuse(capsys, {**base, "data.prompt_dataset": str(data)})


def test_a_model_folder_without_a_tokenizer_is_refused(capsys, base, model, tmp_path):
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("config.json", "model.safetensors"):
        (bare / name).symlink_to(model / name)
    assert "has no tokenizer" in refuse(capsys, {**base, "actor.model_name_or_path": str(bare)})
    for name in ("tokenizer_config.json", "chat_template.jinja"):
        (bare / name).symlink_to(model / name)
    said = refuse(capsys, {**base, "actor.model_name_or_path": str(bare)})
    assert "has no tokenizer: its files name special tokens alone" in said


def test_a_model_folder_without_weights_is_refused(capsys, base, model, tmp_path):
    bare = tmp_path / "bare"
    bare.mkdir()
    for file in model.iterdir():
        if file.suffix != ".safetensors":
            (bare / file.name).symlink_to(file)
    assert "has no weights (none of *.safetensors" in refuse(capsys, {**base, "actor.model_name_or_path": str(bare)})


def test_a_reward_file_without_the_function_is_refused(capsys, base, tmp_path):
    (tmp_path / "reward.py").write_text("def score(queries): ...\n")
    said = refuse(capsys, {**base, "reward.remote_url": str(tmp_path / "reward.py")})
    assert "defines no reward_func" in said


def test_a_yaml_file_is_held_to_the_same_names(capsys, base, tmp_path):
    (tmp_path / "run.yaml").write_text("prefix:\n  keeep: 0.2\n")
    assert "did you mean prefix.keep" in refuse(capsys, base, "--config", tmp_path / "run.yaml")
    assert "there is no config file" in refuse(capsys, base, "--config", tmp_path / "absent.yaml")
    (tmp_path / "twice.yaml").write_text("prefix: {keep: 0.2}\nprefix: {high: 0.9}\n")
    assert "prefix is given twice" in refuse(capsys, base, "--config", tmp_path / "twice.yaml")


def test_an_existing_run_is_not_written_over(capsys, base, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.jsonl").write_text('{"step": 1}\n')
    assert "already holds a run" in refuse(capsys, base)
    (tmp_path / "run" / "config.yaml").write_text("what it ran with\n")
    argv = [token for name, value in base.items() for token in (f"--{name}", *value.split())]
    cli.main(["train", *argv, "--ckpt.load_enable", "--dry_run"])
    assert "not saved: the folder holds a run" in capsys.readouterr().out
    assert (tmp_path / "run" / "config.yaml").read_text() == "what it ran with\n"
    assert (tmp_path / "run" / "metrics.jsonl").read_text() == '{"step": 1}\n'
    said = refuse(capsys, {**base, "run.dir": str(tmp_path / "run" / "metrics.jsonl" / "x")})
    assert "cannot be made" in said


def test_what_a_refused_run_left_does_not_refuse_the_next_one(tmp_path):
    from openrlhf_prefix.report.run_folder import RunFolder

    for name in ("model", ".model.new"):
        (tmp_path / "run" / name).mkdir(parents=True)
    RunFolder(tmp_path / "run").claim(resume=False)


def test_a_dry_run_prints_and_saves_a_config_that_resolves_to_the_same(capsys, base, tmp_path):
    from openrlhf_prefix.settings.resolve import resolve

    argv = [token for name, value in base.items() for token in (f"--{name}", *value.split())]
    cli.main(["train", *argv, "--dry_run", "--actor.loss_agg_mode", "token-mean"])
    printed = capsys.readouterr().out
    saved = tmp_path / "run" / "config.yaml"
    assert saved.read_text() in printed
    again = resolve(["--config", str(saved)])
    first = resolve([*argv, "--actor.loss_agg_mode", "token-mean"])
    assert plain(again.flat) == plain(first.flat)
    assert again.args.hybrid.divisor == "token-mean"


def plain(flat):
    """Tuples as lists, without the names that hold the time of day."""
    return {
        key: list(value) if isinstance(value, tuple) else value for key, value in flat.items() if "run_name" not in key
    }


@pytest.mark.parametrize(
    ("rows", "flags", "expected"),
    [
        ([GOOD], {}, "fewer than rollout.batch_size"),
        ([{"prompt": "1+2"}] * 4, {}, "answer"),
        ([GOOD | {"demonstrations": []}] * 4, {}, "has no demonstration in any row"),
        ([GOOD | {"demonstrations": ["1+2=3\n" * 40 + "\\boxed{3}"]}] * 4, {}, "long_demonstrations"),
        ([GOOD] * 4, {"data.max_len": 100000}, "positions"),
        ([GOOD] * 4, {"data.input_template": "no place for it", "data.apply_chat_template": "false"}, "{}"),
        ([GOOD] * 4, {"reward.remote_url": "reward.py"}, "reward_func"),
        ([GOOD] * 4, {"reward.remote_url": "somewhere"}, "neither a .py file nor http"),
    ],
)
def test_a_dry_run_refuses_what_train_refuses_with_the_same_words(
    capsys, base, tmp_path, monkeypatch, rows, flags, expected
):
    """All that is found after the flags themselves, in rows, tokenizer, template and reward."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "reward.py").write_text("def score():\n    return 1\n")
    write(tmp_path / "data.jsonl", rows)
    words = [word for name, value in flags.items() for word in (f"--{name}", value)]
    said = refuse(capsys, base, *words)
    assert refuse(capsys, base, *words, "--dry_run") == said and expected in said


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_dry_run_refuses_gpus_that_are_not_here_with_the_same_words(capsys, base, monkeypatch):
    monkeypatch.setenv("OPENRLHF_PREFIX_PLATFORM", "cuda")
    said = refuse(capsys, base)
    assert refuse(capsys, base, "--dry_run") == said and "nvidia-smi shows none" in said


def with_template(model, folder, template):
    """The model with another chat template."""
    folder.mkdir()
    for file in model.iterdir():
        if file.name != "chat_template.jinja":
            (folder / file.name).symlink_to(file)
    (folder / "chat_template.jinja").write_text(template)
    return str(folder)


def check(capsys, *words):
    """What `data check` prints; it must have found an error."""
    with pytest.raises(SystemExit) as ended:
        cli.main(["data", "check", *map(str, words)])
    assert ended.value.code == 1
    return capsys.readouterr().out


def test_a_template_that_refuses_a_role_is_a_sentence_with_the_row_in_check_and_train(capsys, base, model, tmp_path):
    raising = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}1+2"
    )
    folder = with_template(model, tmp_path / "raising", raising)
    chat = [{"role": "system", "content": "S"}, {"role": "user", "content": "1+2"}]
    data = write(tmp_path / "data.jsonl", [GOOD, GOOD | {"prompt": chat}, GOOD, GOOD])
    sentence = "row 2: the tokenizer's chat template refuses its messages (system, user): System role not supported"
    assert sentence in refuse(capsys, base | {"actor.model_name_or_path": folder})
    assert f"error: {data}: {sentence}" in check(capsys, data, "--model", folder, "--no_verify")


def test_an_empty_demonstration_is_the_same_error_in_check_and_train(capsys, base, tmp_path):
    data = write(tmp_path / "data.jsonl", [GOOD, GOOD | {"demonstrations": [""]}, GOOD, GOOD])
    said = refuse(capsys, base).removeprefix("openrlhf-prefix: ")
    assert "row 2: demonstration 0 is empty" in said
    assert f"error: {said}" in check(capsys, data, "--no_verify").splitlines()


def test_what_looks_wrong_with_a_template_is_said_before_a_run(capsys, base, model, tmp_path):
    """It ends with the assistant's turn whatever it is asked for, and opens the thought that demonstrations open."""
    template = "{% for message in messages %}{{ message['content'] }}{% endfor %}1<think>"
    folder = with_template(model, tmp_path / "thinking", template)
    write(tmp_path / "data.jsonl", [GOOD | {"demonstrations": ["<think>1+2=3\n\\boxed{3}"]}] * 4)
    argv = [token for name, value in base.items() for token in (f"--{name}", *value.split())]
    cli.main(["train", *argv, "--actor.model_name_or_path", folder, "--dry_run"])
    printed = capsys.readouterr().out
    assert "warning: the tokenizer's chat template ignores the generation prompt" in printed
    assert "warning: 4 demonstrations that open <think> once more than the prompt" in printed
