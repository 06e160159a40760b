"""Which rollouts the page carries, and what is cut off them."""

import json
from pathlib import Path

from openrlhf_prefix.report.reading import Run
from openrlhf_prefix.report.samples import LONGEST, Place, affordable, choose, group, samples, spread


def row(step: int, group: int, slot: int, **more: object) -> dict:
    texts = {"prompt": "2+2=", "prefix": "", "continuation": "so \\boxed{4}"}
    return {"step": step, "group": group, "slot": slot, "problem": f"p{group}", "answer": "4", **texts, **more}


def run(folder: Path, rows: list[dict], rest: str = "") -> Run:
    text = "".join(json.dumps(one) + "\n" for one in rows)
    (folder / "rollouts.jsonl").write_text(text + rest)
    return Run("a", folder, {}, {}, {}, [], [], [])


def test_rows_of_a_problem_are_one_group_with_its_prompt_once(tmp_path: Path) -> None:
    rows = [row(1, 0, 0, reward=1.0, advantage=0.5), row(1, 0, 1, reward=0.0, advantage=-0.5), row(1, 1, 0)]
    found = samples(run(tmp_path, rows))
    assert [len(one["rows"]) for one in found["groups"]] == [2, 1]
    first = found["groups"][0]
    assert (first["prompt"], first["answer"], first["problem"]) == ("2+2=", "4", "p0")
    assert first["rows"][0] == {
        "slot": 0,
        "text": "so \\boxed{4}",
        "said": "4",
        "reward": 1.0,
        "advantage": 0.5,
        "prefix_length": 0,
    }
    assert first["rows"][1]["reward"] == 0.0  # a zero is a number
    assert found["said"] == "3 samples of 1 steps"


def test_the_worst_and_the_luckiest(tmp_path: Path) -> None:
    """By advantage; a prefixed row had help, and is no luck."""
    rows = [row(1, 0, slot, advantage=value) for slot, value in enumerate((0.5, -0.2, 0.0))]
    rows += [row(2, 0, 0, advantage=0.9, prefix_length=3, prefix="ab"), row(2, 0, 1, advantage=-0.9)]
    rows += [row(3, 0, 0, advantage=0.7)]
    found = samples(run(tmp_path, rows))
    assert found["luckiest"] == [[2, 0], [0, 0]] and found["worst"] == [[1, 1], [0, 1]]


def test_groups_are_spread_over_the_run_within_the_budget() -> None:
    """100 steps of 4 groups of 10 characters: 1,000 characters are 100 groups, of 100 steps the first group each;
    300 are 30 steps, the first and the last among them."""
    places = {(step, number): Place([0], 1, 10) for step in range(100) for number in range(4)}
    assert choose(places, 4_000) == set(places)
    some = choose(places, 300)
    steps = sorted(step for step, _ in some)
    assert len(some) == 30 and steps[0] == 0 and steps[-1] == 99 and {number for _, number in some} == {0}
    assert max(later - step for step, later in zip(steps, steps[1:], strict=False)) <= 4
    assert sum(places[key].size for key in choose(places, 1_000)) <= 1_000


def test_a_budget_below_one_group_leaves_one() -> None:
    places = {(step, 0): Place([0], 1, 10) for step in range(9)}
    assert choose(places, 1) == {(8, 0)}
    assert spread([1, 2, 3], 5) == [1, 2, 3] and spread([1, 2, 3, 4, 5], 3) == [1, 3, 5]


def test_telling_rows_take_half_of_the_budget_at_most() -> None:
    """Groups of 10 characters, and 25 for them: two, the third would be too much; one named twice counts once."""
    places = {(step, 0): Place([0], 1, 10) for step in range(9)}
    assert affordable(places, [(5, 0), (5, 0), (2, 0), (7, 0)], 25) == {(5, 0), (2, 0)}


def test_what_is_left_out_is_said(tmp_path: Path) -> None:
    rows = [row(step, 0, slot, advantage=0.0) for step in range(1, 41) for slot in range(8)]
    found = samples(run(tmp_path, rows), budget=10_000)
    steps = len(found["groups"])
    assert 2 <= steps < 40 and found["groups"][-1]["step"] == 40
    said = f"{8 * steps} of 320 samples: whole groups at {steps} of 40 logged steps; all of them are in rollouts.jsonl"
    assert found["said"] == said


def test_a_long_text_loses_its_middle_and_its_tokens() -> None:
    """1 MB of answer: its beginning, its end, and how much is between them."""
    text = "a" * 500_000 + "b" * 500_000
    (made,) = group([row(1, 0, 0, continuation=text, token_lengths=[1_000_000])])["rows"]
    shown, end = made["text"], LONGEST // 4
    assert shown.startswith("a" * (LONGEST - end) + "\n[... 988,000 characters are left out")
    assert shown.endswith("]\n" + "b" * end) and "tokens" not in made and made["length"] == 1


def test_tokens_are_shown_where_they_add_up_to_the_text() -> None:
    told = {"prefix": "ab", "continuation": "cde", "token_lengths": [1, 1, 3], "kept": [1], "prefix_length": 2}
    (made,) = group([row(1, 0, 0, **told, log_probs=[-0.1, -2.34567, -0.5])])["rows"]
    assert made["tokens"] == [1, 1, 3] and made["kept"] == [1] and made["log_probs"] == [-0.1, -2.346, -0.5]
    for wrong in ({"token_lengths": [1, 1, 2]}, {"token_lengths": "no"}, {"token_lengths": [1, -1, 5]}):
        (made,) = group([row(1, 0, 0, **told | wrong)])["rows"]
        assert "tokens" not in made and "kept" not in made
    (made,) = group([row(1, 0, 0, **told | {"kept": [7]}, log_probs=[None, None, None])])["rows"]
    assert "kept" not in made and "log_probs" not in made


def test_an_old_or_odd_row_is_shown_as_far_as_it_goes() -> None:
    (made,) = group([{"step": 1, "answer": ["4", 2], "continuation": None, "reward": "1", "advantage": float("nan")}])[
        "rows"
    ]
    assert made == {"slot": 0, "prefix_length": 0}
    assert group([{"step": 1, "answer": ["4", 2]}])["answer"] == '["4", 2]'


def test_lines_that_are_none_are_left_out_and_said(tmp_path: Path) -> None:
    broken = run(tmp_path, [row(1, 0, 0)], 'no json\n[1]\n{"step": "x"}\n{"step": 2, "gro')
    assert len(samples(broken)["groups"]) == 1
    assert broken.notes == [
        "rollouts.jsonl: 3 line(s) could not be read and are left out",
        "rollouts.jsonl: its last line is not whole and is left out",
    ]


def test_a_run_without_rollouts_has_no_samples(tmp_path: Path) -> None:
    none = samples(Run("a", tmp_path, {}, {}, {}, [], [], []))
    assert none == {"groups": [], "worst": [], "luckiest": [], "said": ""}
