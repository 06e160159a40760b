"""What the sampling of data cost is found beside them, and added up over files."""

import json
from pathlib import Path

import pytest

from openrlhf_prefix.data.sampled import Cost, cost_of, side_file
from openrlhf_prefix.errors import UserError


def test_the_files_of_a_list_cost_what_their_side_files_say(tmp_path: Path) -> None:
    """100 tokens in 1.5 s and 20 in 0.5 s are 120 in 2 s; the third has no side file, the fourth is a hub name."""
    for name, tokens, seconds in (("a", 100, 1.5), ("b.kept", 20, 0.5)):
        found = {"tokens_generated": tokens, "seconds": seconds}
        side_file(tmp_path / f"{name}.jsonl").write_text(json.dumps(found))
    assert (tmp_path / "b.kept.sampling.json").exists()
    names = [str(tmp_path / f"{name}.jsonl") for name in ("a", "b.kept", "c")]
    assert cost_of(",".join([*names, "openai/gsm8k@main"])) == Cost(120, 2.0)
    assert cost_of(names[2]) == cost_of("") == Cost(0, 0.0)


@pytest.mark.parametrize("text", ['{"seconds": 1}', '{"tokens_generated": "many", "seconds": 1}'])
def test_a_side_file_without_a_cost_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.sampling.json").write_text(text)
    with pytest.raises(
        UserError, match=r"a.sampling.json has no tokens_generated and seconds.*or remove the side file"
    ):
        cost_of(str(tmp_path / "a.jsonl"))


def test_a_side_file_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.sampling.json").write_text('{"tokens_gen')
    with pytest.raises(UserError, match="a.sampling.json cannot be read"):
        cost_of(str(tmp_path / "a.jsonl"))
