"""The `evaluate` verb around its engine: what it refuses before one is made, what a kill leaves, what it compares.

The engine is one of ours that answers by a request's seed alone, as vLLM's does; tests/e2e/test_evaluate.py has the
real one.
"""

import json
import os
from pathlib import Path

import pytest

pytest.importorskip("openrlhf")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")  # as make_engine() has it, which these tests replace

from benchmark_files import SCHEMA, luffy_file, row, write  # noqa: E402
from stand_in_engine import StandInEngine  # noqa: E402

from openrlhf_prefix import cli  # noqa: E402
from openrlhf_prefix.data.tiny_model import WarmUp, make_model  # noqa: E402
from openrlhf_prefix.runtime.evaluate import sampling  # noqa: E402

SHORT = ("--max_new_tokens", 48)
ANSWERS = ["\\boxed{2}", "\\boxed{3}", "I do not know", "\\boxed{1}"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("model") / "tiny", recipe=WarmUp(steps=1), progress=False)


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("model") / "other", recipe=WarmUp(steps=2), progress=False)


@pytest.fixture
def engine(monkeypatch):
    """Puts an engine in place and returns it."""

    def place(**options) -> StandInEngine:
        made = StandInEngine([(text, 5, "length" if text == ANSWERS[2] else "stop") for text in ANSWERS], 3, **options)
        monkeypatch.setattr(sampling, "make_engine", lambda *_: made)
        return made

    return place


@pytest.fixture(autouse=True)
def no_engine(monkeypatch) -> None:
    def made(*_):
        raise AssertionError("an engine was made")

    monkeypatch.setattr(sampling, "make_engine", made)


def evaluate(*words: object) -> None:
    cli.run("evaluate", [str(word) for word in words])


def refusal(capsys, *words: object) -> str:
    with pytest.raises(SystemExit) as ended:
        cli.main(["evaluate", *map(str, words)])
    captured = capsys.readouterr()
    assert ended.value.code == 2 and captured.out == "" and len(captured.err.splitlines()) == 1, captured.err
    return captured.err


def results(folder: Path) -> dict:
    return json.loads(max(folder.glob("results_*.json")).read_text())


def test_a_benchmark_file_as_it_is(model, engine, tmp_path, capsys) -> None:
    """32 samples of both problems of AIME and one of both of MATH, all prompts without the long system message; the
    scores are those of the engine's answers."""
    made = engine()
    out, names = tmp_path / "out", tmp_path / "numbers.json"
    path = luffy_file(tmp_path / "valid.parquet")
    evaluate(model, path, *SHORT, "--output", out, "--json", names)
    assert len(made.seen) == 66 and len({seed for _, seed in made.seen}) == 66
    assert len({ids for ids, _ in made.seen}) == 4 and max(len(ids) for ids, _ in made.seen) < 48
    found = results(out)
    assert list(found["results"]) == ["math", "aime"] and found["results"]["aime"]["samples"] == 32
    general = found["config_general"]
    assert (general["temperature"], general["top_p"], general["template"]) == (0.6, 1.0, "own")
    assert len(general["template_hash"]) == 16 and general["versions"]["math-verify"]
    rows = [json.loads(line) for line in (out / "details_aime.jsonl").read_text().splitlines()]
    assert len(rows) == 64 and {row["gold"] for row in rows} == {"2", "3"}
    for line in rows:
        right = line["completion"] == f"\\boxed{{{line['gold']}}}"
        assert line["score"] == right and line["prompt"].endswith("<|im_start|>assistant\n")
        assert (line["reason"] == "no_answer") == (line["extracted"] is None) == (line["finish"] == "length")
    share = sum(row["score"] for row in rows) / 64
    assert found["results"]["aime"]["avg@32"] == pytest.approx(share)
    assert sum(found["problems"]["aime"].values()) == share * 64
    assert found["results"]["aime"]["truncated"] == found["results"]["aime"]["unparsed"] > 0
    printed = capsys.readouterr().out
    assert len(printed.splitlines()) == 1 and f"aime avg@32 {share:.1%} +-" in printed
    numbers = json.loads(names.read_text())["datasets"]
    assert [row["problems"] for row in numbers] == [2, 2]  # the tasks differ in samples


def test_a_killed_evaluation_goes_on_and_comes_to_the_same(model, engine, tmp_path, capsys) -> None:
    path = luffy_file(tmp_path / "valid.parquet", repeats=2)
    words = (model, path, *SHORT, "--samples", 8)
    whole = engine()
    evaluate(*words, "--output", tmp_path / "whole")
    first = engine(until=12)
    with pytest.raises(KeyboardInterrupt):
        evaluate(*words, "--output", tmp_path / "killed")
    assert len(first.seen) == 12 and not list((tmp_path / "killed").glob("results_*"))
    second = engine()
    evaluate(*words, "--output", tmp_path / "killed", "--resume")
    kept = 32 - len(second.seen)
    assert 0 < kept <= 12 and set(first.seen[:kept]) <= set(whole.seen)
    assert set(second.seen) < set(whole.seen) and len(set(first.seen) | set(second.seen)) == 32
    for part in ("results", "problems"):
        assert results(tmp_path / "killed")[part] == results(tmp_path / "whole")[part]
    engine(until=0)  # nothing is left to draw
    evaluate(*words, "--output", tmp_path / "killed", "--resume")
    assert len(set(capsys.readouterr().out.splitlines())) == 1  # the same line three times


def reward_file(path: Path, body: str) -> Path:
    path.write_text(f"def reward_func(queries, prompts, labels, responses):\n    {body}\n")
    return path


def test_a_reward_file_judges_in_our_place(model, engine, tmp_path, capsys) -> None:
    """Right are the answers that are not the gold, which our verifier would never say; one answer makes it raise."""
    file, out = luffy_file(tmp_path / "valid.parquet"), tmp_path / "out"
    body = 'return {"rewards": 0.5 * (int(responses[0][7:-1]) != int(labels[0])) * (responses[0] in queries[0])}'
    rewards = reward_file(tmp_path / "reward.py", body)
    engine()
    evaluate(model, file, *SHORT, "--samples", 8, "--output", out, "--reward_file", rewards)
    rows = [json.loads(line) for line in (out / "details_aime.jsonl").read_text().splitlines()]
    assert {line["completion"] for line in rows} == set(ANSWERS)
    for line in rows:
        read = line["completion"] != "I do not know"
        assert line["reason"] == ("rewarded" if read else "error")
        assert line["score"] == (0.5 if read and line["extracted"] != line["gold"] else 0.0)
    found = results(out)["results"]["aime"]
    assert found["avg@8"] == sum(line["score"] > 0 for line in rows) / 16 > 0
    assert found["ungraded"] == sum(line["reason"] == "error" for line in rows) / 16 > 0
    capsys.readouterr()
    rewards.write_text(rewards.read_text() + "# changed\n")
    words = (model, file, *SHORT, "--samples", 8, "--output", out)
    assert "grader" in refusal(capsys, *words, "--reward_file", rewards, "--resume")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("return 1.0", "reward.py: the reward is 1.0 (float)"),
        ("raise SystemExit(3)", "does not start"),
        (None, "there is no reward file"),
        ("", "is no Python"),
    ],
)
def test_a_reward_file_that_is_none_is_refused_before_an_engine_is_made(model, tmp_path, capsys, body, expected):
    path = tmp_path / "reward.py"
    if body is not None:
        reward_file(path, body if "Exit" not in body else "pass")
    if body and "Exit" in body:
        path.write_text(f"{path.read_text()}\n{body}\n")
    file = luffy_file(tmp_path / "valid.parquet")
    assert expected in refusal(capsys, model, file, *SHORT, "--samples", 2, "--reward_file", path)


def test_other_settings_are_not_resumed(model, other, engine, tmp_path, capsys) -> None:
    path, out = luffy_file(tmp_path / "valid.parquet", repeats=2), tmp_path / "out"
    engine()
    evaluate(model, path, *SHORT, "--samples", 2, "--output", out)
    capsys.readouterr()
    words = (path, *SHORT, "--output", out)
    assert "--resume goes on with it" in refusal(capsys, model, *words, "--samples", 2)
    said = refusal(capsys, model, *words, "--samples", 2, "--resume", "--temperature", 1, "--seed", 1)
    assert "temperature 0.6 -> 1.0; seed 42 -> 1" in said
    assert "model_hash" in refusal(capsys, other, *words, "--samples", 2, "--resume")
    assert "tasks.aime.samples 2 -> 4" in refusal(capsys, model, *words, "--samples", 4, "--resume")
    assert "template own -> qwen" in refusal(capsys, model, *words, "--samples", 2, "--resume", "--template", "qwen")


def test_templates_stand_around_the_question(model, engine, tmp_path) -> None:
    ends = {
        "own": ("<|im_start|>user\nLeft", "<|im_end|>\n<|im_start|>assistant\n"),
        "luffy": ("<|im_start|>system\nYour task is to follow", "<|im_end|>\n<|im_start|>assistant\n"),
        "qwen": ("<|im_start|>system\nPlease reason", "<|im_end|>\n<|im_start|>assistant\n"),
        "zero": ("A conversation between", "\\boxed{Your answer}. Assistant:"),
    }
    path = luffy_file(tmp_path / "valid.parquet")
    hashes = set()
    for name, (start, end) in ends.items():
        engine()
        words = ("--samples", 1, "--max_new_tokens", 2, "--max_samples", 1, "--template", name)
        evaluate(model, path, *words, "--output", tmp_path / name)
        prompt = json.loads((tmp_path / name / "details_math.jsonl").read_text())["prompt"]
        assert prompt.startswith(start) and prompt.endswith(end) and "Left to right, modulo 10: 1+2*3-8" in prompt
        hashes.add(results(tmp_path / name)["config_general"]["template_hash"])
    assert len(hashes) == 4


CHOICE = "Which is 2?\n\nA) 1+1+1\nB) 1+1\nC) 7\nD) 5"


def test_multiple_choice_is_judged_by_its_letter(model, engine, tmp_path, monkeypatch) -> None:
    """One in four answers names the gold, wherever it was shuffled to; 16 questions with four samples each."""
    monkeypatch.setattr("test_evaluate_command.ANSWERS", ["\\boxed{\\text{A}}", "Answer: (B)", "\\boxed{C}", "D) 5"])
    path = write(tmp_path / "gpqa.parquet", [row("gpqa", f"{index}{CHOICE}", "B") for index in range(16)])
    engine()
    evaluate(model, path, *SHORT, "--samples", 4, "--output", tmp_path / "out")
    lines = [json.loads(line) for line in (tmp_path / "out" / "details_gpqa.jsonl").read_text().splitlines()]
    letter = {"\\boxed{\\text{A}}": "A", "Answer: (B)": "B", "\\boxed{C}": "C", "D) 5": "D"}
    assert all(line["score"] == (letter[line["completion"]] == line["gold"]) for line in lines)
    assert all(f"\n{line['gold']}) 1+1" in line["prompt"] for line in lines)
    assert len({line["gold"] for line in lines}) > 1 and {line["score"] for line in lines} == {0.0, 1.0}
    assert results(tmp_path / "out")["config_general"]["tasks"]["gpqa"]["shuffled"] == 16


def test_a_comparison_with_results(model, other, engine, tmp_path, capsys) -> None:
    path = luffy_file(tmp_path / "valid.parquet")
    engine()
    evaluate(other, path, *SHORT, "--seed", 1, "--output", tmp_path / "base")
    capsys.readouterr()
    engine()
    words = (model, path, *SHORT, "--output", tmp_path / "now", "--against", tmp_path / "base", tmp_path / "base")
    evaluate(*words, "--learned", "math")
    printed = capsys.readouterr().out
    comparison = json.loads(max((tmp_path / "now").glob("comparison_*.json")).read_text())
    base, now = results(tmp_path / "base"), results(tmp_path / "now")
    for gain in comparison["gains"]:
        name = gain["name"]
        assert gain["now"] == pytest.approx(now["results"][name]["pass@1"])
        assert gain["gain"] == pytest.approx(gain["now"] - base["results"][name]["pass@1"])
        pairs = [(now["problems"][name][key], count) for key, count in base["problems"][name].items()]
        assert gain["wins"] == sum(after > before for after, before in pairs)
    aime = comparison["forgetting"]["tasks"]["aime"]
    assert aime["best"] == max(aime["now"], base["results"]["aime"]["avg@32"])
    assert comparison["forgetting"]["FM"] == aime["lost"] and comparison["base"] == str(other)
    assert "won  equal   lost" in printed and "math" in printed and "(learned)" in printed


def test_a_base_that_cannot_be_compared_is_refused(model, engine, tmp_path, capsys) -> None:
    path, out = luffy_file(tmp_path / "valid.parquet", repeats=2), tmp_path / "base"
    engine()
    evaluate(model, path, *SHORT, "--samples", 2, "--output", out)
    capsys.readouterr()
    changed = write(tmp_path / "changed.parquet", [row("aime", "1+2", "3"), row("math", "1+2", "3")])
    more = write(tmp_path / "more.parquet", [row("amc", "1+2", "3")])
    words = (*SHORT, "--samples", 2, "--against", out)
    assert "tasks.aime.problems 2 -> 1" in refusal(capsys, model, changed, *words)
    assert "data_hash" in refusal(capsys, model, changed, *words)
    assert "has no amc (it has math, aime)" in refusal(capsys, model, more, *words)
    assert "temperature 0.6 -> 1.0" in refusal(capsys, model, path, *words, "--temperature", 1)
    assert "template own -> zero" in refusal(capsys, model, path, *words, "--template", "zero")
    assert "samples 2 -> 4" in refusal(capsys, model, path, *SHORT, "--samples", 4, "--against", out)
    (tmp_path / "empty").mkdir()
    said = refusal(capsys, model, path, *SHORT, "--against", tmp_path / "empty")
    assert "neither a model (config.json) nor results" in said
    assert "there is no" in refusal(capsys, model, path, *SHORT, "--against", tmp_path / "nothing")
    assert "has no tokenizer" in refusal(capsys, model, path, *SHORT, "--against", half_a_model(model, tmp_path))
    assert "the tasks are math, aime" in refusal(capsys, model, path, *words, "--learned", "amc")


def half_a_model(model: Path, folder: Path) -> Path:
    (folder / "half").mkdir()
    (folder / "half" / "config.json").write_text((Path(model) / "config.json").read_text())
    return folder / "half"


def test_a_base_that_is_a_model_is_evaluated_with_the_same_options() -> None:
    from openrlhf_prefix.runtime.evaluate import against, command

    words = ["m", "a.parquet", "b.jsonl", "--k", "1", "4", "--samples", "4", "--template", "zero", "--resume"]
    words += [
        "--output",
        "o",
        "--against",
        "base",
        "--kl_prompts",
        "t.jsonl",
        "--temperature",
        "0.7",
        "--choices",
        "as_is",
    ]
    options = command.parser().parse_args(words)
    again = command.parser().parse_args(["base", *options.datasets, *against.words_of(options, command.parser())])
    differing = {name for name, value in vars(options).items() if getattr(again, name) != value}
    assert differing == {"model", "output", "resume", "against", "kl_prompts"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--resume",), "name it with --output"),
        (("--samples", 0), "at least 1"),
        (("--k", 0), "pass@k needs k >= 1"),
        (("--k", 8, "--samples", 4), "pass@8 needs as many samples"),
        (("--top_p", 0), "--top_p lies in (0, 1]"),
        (("--template", "own", "--no_chat_template"), "exclude each other"),
        (("--learned", "math"), "name it with --against"),
        (("--max_new_tokens", 8192), "the 512 positions of"),
        (("--max_len", 50), "exceeds --max_len 50"),
        (("--learned", "math", "--against"), "expected at least one argument"),
        (("--template", "his"), "invalid choice"),
    ],
)
def test_options_that_cannot_work(model, tmp_path, capsys, words: tuple, said: str) -> None:
    assert said in refusal(capsys, model, luffy_file(tmp_path / "valid.parquet"), *SHORT, *words)


def test_files_that_cannot_be_used(model, tmp_path, capsys) -> None:
    gone = SCHEMA.remove(SCHEMA.get_field_index("reward_model"))
    rows = [row("aime", "1+2?", "3")]
    assert "row 1 has no column 'reward_model'" in refusal(capsys, model, write(tmp_path / "a.parquet", rows, gone))
    none = write(tmp_path / "b.parquet", [row("aime", "1+2?", None)])
    assert "row 1 has nothing in column 'reward_model.ground_truth'" in refusal(capsys, model, none)
    lists = tmp_path / "c.jsonl"
    lists.write_text(json.dumps(row("aime", "1+2?", ["3", "4"])))
    assert "row 1 has 2 answers" in refusal(capsys, model, lists)


def test_the_divergence_of_two_models(model, other, tmp_path) -> None:
    """Against a computation of our own, token by token, with given responses; of a model against itself it is 0."""
    import torch
    from transformers import AutoModelForCausalLM

    from openrlhf_prefix.runtime.evaluate.divergence import Request, compute

    request = Request(str(model), str(other), [[3, 4, 5], [6, 7]], [[8, 9, 10, 2], [11, 2]], 8, 0, False)
    found = compute(request)
    base, now = (AutoModelForCausalLM.from_pretrained(name, dtype=torch.float32) for name in (model, other))
    means = []
    for prompt, response in zip(request.prompts, request.responses, strict=True):
        total = 0.0
        for place in range(len(response)):
            ids = torch.tensor([prompt + response[:place]])
            p, q = (m(ids).logits[0, -1].detach().double().softmax(-1) for m in (base, now))
            total += sum(float(a * (a / b).log()) for a, b in zip(p, q, strict=True))
        means.append(total / len(response))
    assert found["per_token"] == pytest.approx(sum(means) / 2, rel=1e-4) and found["per_token"] > 1e-4
    assert found["tokens"] == 6 and found["responses"] == "the file's demonstrations"
    sampled = compute(Request(str(model), str(model), [[3, 4, 5]], None, 8, 0, False))
    assert sampled["per_token"] == pytest.approx(0, abs=1e-9) and 1 <= sampled["tokens"] <= 8
    assert compute(request) == found
