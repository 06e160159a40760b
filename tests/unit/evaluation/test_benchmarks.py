"""The table of benchmarks: names as files spell them, and the means of the papers' last columns."""

import pytest

from openrlhf_prefix.evaluation.benchmarks import BENCHMARKS, SIX, THREE, known, means, metric


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("aime", "aime"),
        ("AIME_2024", "aime"),
        ("aime25", "aime25"),
        ("HuggingFaceH4/MATH-500", "math"),
        ("Minerva Math", "minerva"),
        ("olympiad_bench", "olympiad_bench"),
        ("ARC-Challenge", "arc_c"),
        ("gpqa_diamond", "gpqa"),
        ("TIGER-Lab/MMLU-Pro", "mmlu_pro"),
        ("chains", None),
        ("math_dapo", None),
        (None, None),
    ],
)
def test_names_of_sources(source: str | None, expected: str | None) -> None:
    assert known(source) == expected


def test_every_benchmark_has_the_papers_metric() -> None:
    found = {name: metric(benchmark.samples) for name, benchmark in BENCHMARKS.items()}
    assert {name for name, value in found.items() if value == "avg@32"} == {"aime", "aime25", "amc"}
    assert {value for name, value in found.items() if name not in ("aime", "aime25", "amc")} == {"pass@1"}
    assert {name for name, benchmark in BENCHMARKS.items() if benchmark.choices} == {"arc_c", "gpqa", "mmlu_pro"}


def test_the_mean_of_six_is_luffys_column() -> None:
    """LUFFY-Qwen-Math-7B-Zero: 29.4, 23.1, 65.6, 87.6, 37.5, 57.2 have the mean 300.4 / 6 = 50.07, printed as 50.1."""
    row = dict(
        zip(
            ("aime", "aime25", "amc", "math", "minerva", "olympiad_bench"),
            (29.4, 23.1, 65.6, 87.6, 37.5, 57.2),
            strict=True,
        )
    )
    found = means({name: (value, 6.0) for name, value in row.items()})
    assert list(found) == [SIX] and found[SIX][0] == pytest.approx(50.0667, abs=1e-4)
    assert found[SIX][1] == pytest.approx(6.0 / 6**0.5)  # sqrt(6 * 36) / 6


def test_a_column_with_a_gap_has_no_mean_and_one_without_an_error_none() -> None:
    three = {"arc_c": (0.8, 0.03), "gpqa": (0.4, None), "mmlu_pro": (0.6, 0.04)}
    assert means(three) == {THREE: (pytest.approx(0.6), None)}
    assert means({**three, "chains": (0.1, 0.1)}).keys() == {THREE}
    assert means({"arc_c": (0.8, 0.03), "gpqa": (0.4, 0.03)}) == {}
