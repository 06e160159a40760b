"""`data filter` and `data collect` around their engine: rates, kept rows, demonstrations, costs, and what is refused.

The engine is one of ours that answers by a request's seed alone, as vLLM's does; tests/e2e/test_evaluate.py has the
real one. What it should have said is worked out here from the seeds.
"""

import json
from pathlib import Path

import pytest

pytest.importorskip("openrlhf")

from stand_in_engine import StandInEngine  # noqa: E402

from openrlhf_prefix import cli  # noqa: E402
from openrlhf_prefix.algorithm.sampler import EVALUATION, request_seed  # noqa: E402
from openrlhf_prefix.data.tiny_model import WarmUp, make_model  # noqa: E402
from openrlhf_prefix.runtime.evaluate import sampling  # noqa: E402

SAMPLES, COUNT = 4, 40
# By seed % 8: text, tokens, how it ended. Right for the gold 2 are 0 to 3 and 6; 2 was cut off.
ANSWERS = [
    ("1+1=2, \\boxed{2}", 7, "stop"),
    ("1+1=2,  \\boxed{2}", 8, "stop"),  # the same but for a space
    ("so \\boxed{2} and then", 9, "length"),
    ("2\n\\boxed{2}", 5, "stop"),
    ("\\boxed{3}", 4, "stop"),
    ("I do not know", 3, "stop"),
    ("\\boxed{2}, a guess", 6, "stop"),  # right, but nothing stands before its answer
    ("\\boxed{5}", 4, "length"),
]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("model") / "tiny", recipe=WarmUp(steps=1), progress=False)


@pytest.fixture
def engine(monkeypatch):
    """Puts an engine in place and returns it."""

    def place(**options) -> StandInEngine:
        made = StandInEngine(ANSWERS, 5, **options)
        monkeypatch.setattr(sampling, "make_engine", lambda *_: made)
        return made

    return place


@pytest.fixture(autouse=True)
def no_engine(monkeypatch) -> None:
    def made(*_):
        raise AssertionError("an engine was made")

    monkeypatch.setattr(sampling, "make_engine", made)


def said(problem: str, samples: int = SAMPLES, seed: int = 42) -> list[tuple[str, int, str]]:
    """What the engine answers to the samples of a problem, in their order."""
    return [ANSWERS[request_seed(seed, EVALUATION, problem, number) % 8] for number in range(samples)]


def rate(problem: str, **changed) -> float:
    answers = said(problem, **changed)
    return sum("\\boxed{2}" in text for text, _, _ in answers) / len(answers)


def write(path: Path, count: int = COUNT, **more) -> Path:
    """Problems of gold 2, every second with an id of its own, and a column that is none of ours."""
    rows = [{"prompt": f"1+1? ({n})", "answer": "2", "level": n, **more} for n in range(1, count + 1)]
    rows = [{"id": f"own-{n}", **row} if n % 2 else row for n, row in enumerate(rows)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def names(count: int = COUNT) -> list[str]:
    return [f"own-{n}" if n % 2 else f"train-{n + 1}" for n in range(count)]


def rows_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def data(verb: str, source: Path, target: Path, model, *words: object) -> None:
    given = (verb, source, target, "--policy", model, "--samples", SAMPLES, "--max_new_tokens", 16, *words)
    cli.run("data", [str(word) for word in given])


def refusal(capsys, *words: object) -> str:
    with pytest.raises(SystemExit) as ended:
        cli.main(["data", *map(str, words)])
    captured = capsys.readouterr()
    lines = [line for line in captured.err.splitlines() if line and "samples/s]" not in line]
    assert ended.value.code == 2 and captured.out == "" and len(lines) == 1, captured.err
    return lines[0]


def side(path: Path) -> dict:
    return json.loads(path.with_suffix(".sampling.json").read_text())


@pytest.mark.parametrize(
    ("keep", "within"),
    [("0<rate", lambda r: r > 0), ("0<rate<1", lambda r: 0 < r < 1), ("rate<=0.5", lambda r: r <= 0.5)],
)
def test_the_problems_within_the_bounds_are_written_with_their_rates(model, engine, tmp_path, keep, within, capsys):
    made, out = engine(), tmp_path / "kept.jsonl"
    data("filter", write(tmp_path / "train.jsonl", demonstrations=["1+1=2\n\\boxed{2}"]), out, model, "--keep", keep)
    wanted = {name: rate(name) for name in names() if within(rate(name))}
    found = rows_of(out)
    assert {row["id"]: row["pass_rate"] for row in found} == wanted and 0 < len(wanted) < COUNT
    assert [row["level"] for row in found] == [n + 1 for n, name in enumerate(names()) if name in wanted]
    assert all(row["demonstrations"] == ["1+1=2\n\\boxed{2}"] and row["answer"] == "2" for row in found)
    assert len(set(made.seeds)) == COUNT * SAMPLES
    cost = side(out)
    assert (cost["verb"], cost["keep"], cost["problems"], cost["written"]) == ("filter", keep, COUNT, len(wanted))
    assert cost["tokens_generated"] == sum(tokens for name in names() for _, tokens, _ in said(name))
    assert sum(cost["rates"].values()) == COUNT and cost["rates"]["0"] == sum(rate(name) == 0 for name in names())
    assert cost["settings"]["seed"] == 42 and len(cost["settings"]["model_hash"]) == 16 and cost["seconds"] > 0
    assert f"{len(wanted)} of {COUNT} problems ({keep})" in capsys.readouterr().out


def test_filtering_what_was_filtered_changes_nothing_but_its_cost(model, engine, tmp_path):
    """The seed is of the problem's id, which the first pass wrote down: row 3 of the file may be row 2 of the next."""
    first, second, other = (tmp_path / f"{name}.jsonl" for name in ("first", "second", "other"))
    engine()
    data("filter", write(tmp_path / "train.jsonl"), first, model)
    engine()
    data("filter", first, second, model)
    assert second.read_bytes() == first.read_bytes()
    both = side(first)["tokens_generated"] + sum(t for row in rows_of(first) for _, t, _ in said(row["id"]))
    assert side(second)["tokens_generated"] == both
    engine()
    data("filter", tmp_path / "train.jsonl", other, model, "--seed", 1)
    assert {row["id"]: row["pass_rate"] for row in rows_of(other)} == {
        name: rate(name, seed=1) for name in names() if rate(name, seed=1)
    }


def test_a_killed_filter_goes_on_and_its_samples_serve_again(model, engine, tmp_path, capsys):
    """All seeds are drawn once over both starts. Another interval, and `collect`, then ask no engine at all."""
    source, out = write(tmp_path / "train.jsonl"), tmp_path / "kept.jsonl"
    first = engine(until=40)
    with pytest.raises(KeyboardInterrupt):
        data("filter", source, out, model)
    assert not out.exists() and not list(tmp_path.glob(".kept*"))
    kept = len((tmp_path / "kept.samples" / "details_train.jsonl").read_text().splitlines())
    second = engine()
    data("filter", source, out, model)
    assert len(second.seeds) == COUNT * SAMPLES - kept and 0 < kept <= 40
    assert len(set(first.seeds) | set(second.seeds)) == COUNT * SAMPLES
    wanted = {name: rate(name) for name in names() if rate(name)}
    assert {row["id"]: row["pass_rate"] for row in rows_of(out)} == wanted

    engine(until=0)
    again = ("--folder", tmp_path / "kept.samples")
    data("filter", source, tmp_path / "all.jsonl", model, "--keep", "0<=rate", *again)
    data("collect", source, tmp_path / "own.jsonl", model, *again)
    assert len(rows_of(tmp_path / "all.jsonl")) == len(rows_of(tmp_path / "own.jsonl")) == COUNT
    capsys.readouterr()
    words = ("filter", source, tmp_path / "x.jsonl", "--policy", model, "--samples", SAMPLES, *again)
    told = refusal(capsys, *words, "--max_new_tokens", 16, "--seed", 7)
    assert "(seed 42 -> 7): remove the folder, or choose another --folder" in told
    assert not (tmp_path / "x.jsonl").exists()


@pytest.mark.parametrize("most", [None, 1])
def test_right_samples_that_ended_become_the_demonstrations(model, engine, tmp_path, most):
    """By hand from the answers: 0 and 1 differ in a space and count once, 2 was cut off, 6 begins with its answer, 3
    is another text. What the file had is gone, and a problem without such a sample stays, with none."""
    engine()
    out = tmp_path / "own.jsonl"
    words = () if most is None else ("--per_problem", most)
    data("collect", write(tmp_path / "train.jsonl", demonstrations=["given"]), out, model, *words)
    found = rows_of(out)
    assert [row["id"] for row in found] == names()
    for row in found:
        wanted: list[str] = []
        for text, _, _ in said(row["id"]):
            kind = {ANSWERS[0][0]: 0, ANSWERS[1][0]: 0, ANSWERS[3][0]: 3}.get(text)
            if kind is not None and all(kind != {ANSWERS[3][0]: 3}.get(old, 0) for old in wanted):
                wanted.append(text)
        assert row["demonstrations"] == wanted[:most] and row["pass_rate"] == rate(row["id"])
    counts = {len(row["demonstrations"]) for row in found}
    assert counts == ({0, 1} if most else {0, 1, 2})
    cost = side(out)
    assert (cost["verb"], cost["per_problem"], cost["written"]) == ("collect", most, COUNT)
    assert cost["tokens_generated"] == sum(tokens for name in names() for _, tokens, _ in said(name))


def test_what_collect_wrote_is_read_by_a_run(model, engine, tmp_path):
    """The pass rate and every demonstration reach the problems, whose prefixes stop before the answer."""
    from openrlhf_prefix.data.check import Settings, survey
    from openrlhf_prefix.data.problems import read_rows
    from openrlhf_prefix.data.rows import Columns

    engine()
    out = tmp_path / "own.jsonl"
    data("collect", write(tmp_path / "train.jsonl"), out, model)
    rows = read_rows(str(out), "train", 100, Columns())
    assert {row.id: row.pass_rate for row in rows} == {name: rate(name) for name in names()}
    assert survey(str(out), Settings(columns=Columns(), split="train", verifier=None)).errors == 0


def test_an_empty_result_is_refused_and_leaves_no_file(model, engine, tmp_path, capsys, monkeypatch):
    """Nobody is right: 0<rate keeps nothing, and there is nothing to collect. The samples stay for another try."""
    monkeypatch.setattr("test_data_sampling.ANSWERS", [("\\boxed{3}", 4, "stop")] * 8)
    source = write(tmp_path / "train.jsonl", 3)
    options = ("--policy", model, "--samples", 2, "--max_new_tokens", 16, "--folder", tmp_path / "samples")
    engine()
    told = refusal(capsys, "filter", source, tmp_path / "kept.jsonl", *options)
    assert "no problem has a pass rate within '0<rate': 3 of 3 problems are never solved, 0 always" in told
    told = refusal(capsys, "collect", source, tmp_path / "own.jsonl", *options)
    assert "none of 2 samples of 3 problems is right, ended by itself and has something before its answer" in told
    assert sorted(path.name for path in tmp_path.iterdir()) == ["samples", "train.jsonl"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("filter", "train.jsonl", "out.jsonl", "--keep", "rate>0"), "is no interval of rates"),
        (("filter", "train.jsonl", "out.jsonl", "--keep", "0<rate<1", "--samples", "1"), "no rate that 1 samples can"),
        (("filter", "none.jsonl", "out.jsonl"), "FILE: there is no 'none.jsonl'"),
        (("filter", "train.jsonl", "out.parquet"), "must end in .jsonl"),
        (("filter", "train.jsonl", "train.jsonl"), "exists already"),
        (("filter", "train.jsonl", "out.jsonl", "--samples", "0"), "at least 1"),
        (("filter", "bad.jsonl", "out.jsonl"), "row 2 has no answer"),
        (("filter", "twice.jsonl", "out.jsonl"), "row 2 has the id 'a' of row 1"),
        (("collect", "train.jsonl", "out.jsonl"), "--samples"),
        (("collect", "train.jsonl", "out.jsonl", "--samples", "2", "--per_problem", "0"), "--per_problem is 0"),
        (("filter", "train.jsonl", "out.jsonl", "--max_new_tokens", "100000"), "lower --max_new_tokens"),
    ],
)
def test_a_mistake_is_one_line_before_an_engine_is_made(model, tmp_path, monkeypatch, capsys, words, expected):
    monkeypatch.chdir(tmp_path)
    write(Path("train.jsonl"), 2)
    Path("bad.jsonl").write_text('{"prompt": "1+1?", "answer": "2"}\n{"prompt": "1+1?"}\n')
    Path("twice.jsonl").write_text('{"prompt": "1+1?", "answer": "2", "id": "a"}\n' * 2)
    assert expected in refusal(capsys, *words, "--policy", model)
    assert not Path("out.jsonl").exists()


def test_a_policy_that_is_not_there_is_refused(tmp_path, capsys):
    told = refusal(capsys, "filter", write(tmp_path / "train.jsonl"), tmp_path / "out.jsonl", "--policy", "./no/model")
    assert "--policy: there is no './no/model' here" in told
