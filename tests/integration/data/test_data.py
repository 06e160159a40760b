"""Real tokenizers, the real verifier and a real process's memory under the data layer."""

import json
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

pytest.importorskip("transformers")
parquet = pytest.importorskip("pyarrow.parquet")
import pyarrow  # noqa: E402

from openrlhf_prefix import cli  # noqa: E402
from openrlhf_prefix.data import chains, cuts, tasks  # noqa: E402
from openrlhf_prefix.data.answers import answer_start  # noqa: E402
from openrlhf_prefix.data.check import Settings, survey  # noqa: E402
from openrlhf_prefix.data.findings import GOLDS, REJECTED  # noqa: E402
from openrlhf_prefix.data.tiny_tokenizer import make_tokenizer  # noqa: E402
from openrlhf_prefix.reward import MathVerifier  # noqa: E402

ROOT = Path(__file__).resolve().parents[3]
PIECES = [
    "so ",
    "$",
    "\n\n",
    "  ",
    "**Final Answer**\n",
    "x=1/2",
    "\u00fc",
    "\U0001f600",
    "= ",
    "\\",
    "\\frac{1}{2}",
    "the ",
]
ENDS = ["\\boxed{5}", "\\boxed{\\frac{1}{2}}.", "\\boxed {x}$", "\\fbox{7}\n"]


@pytest.fixture(scope="module")
def byte_level():
    """A byte-level BPE with merges over the backslash, the brace and spaces, as those of real models have."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=600, initial_alphabet=alphabet, show_progress=False)
    rng = Random(0)
    tokenizer.train_from_iterator([text(rng) for _ in range(400)], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def text(rng: Random) -> str:
    return "".join(rng.choices(PIECES, k=rng.randint(1, 12))) + rng.choice(ENDS)


def limit_of(tokenizer, demonstration: str) -> tuple[list[int], int, int]:
    """(ids, limit, first character of the box)."""
    start = answer_start(demonstration, "no gold", None)
    ids, head = tokenizer([demonstration, demonstration[:start]], add_special_tokens=False)["input_ids"]
    return ids, cuts.common_length(ids, head), start


def test_a_prefix_is_text_before_the_box_and_one_token_more_reaches_past_it(byte_level) -> None:
    """For 500 random texts. By the offsets, token `limit` is the first that holds anything at or after the box."""
    rng, exact = Random(1), 0
    for _ in range(500):
        demonstration = text(rng)
        ids, limit, start = limit_of(byte_level, demonstration)
        shown = byte_level.decode(ids[:limit]).rstrip("\ufffd")  # a cut inside a character's bytes shows as that
        assert demonstration[:start].startswith(shown)
        offsets = byte_level(demonstration, return_offsets_mapping=True, add_special_tokens=False)["offset_mapping"]
        most = next(index for index, (_, end) in enumerate(offsets) if end > start)
        assert limit <= most
        exact += limit == most
    assert exact > 400  # the others lose a token that merges differently at the cut


def test_the_embedded_demonstrations_end_right_before_their_box() -> None:
    tokenizer, rng = make_tokenizer(chains.INSTRUCTION), Random(2)
    for _ in range(50):
        demonstration = chains.draw_problem(rng, 3, 6).worked()
        ids, limit, start = limit_of(tokenizer, demonstration)
        assert tokenizer.decode(ids[:limit]) == demonstration[:start]
        assert tokenizer.decode(ids[: limit + 1]) == demonstration[:start] + "\\boxed{"
        assert len(ids) - limit == 3  # the opening box, the digit, the brace


GSM8K = [  # in the layout of the published set, made for this test
    ("She sold 48/2 = <<48/2=24>>24 clips in May.\nWith 48 more, 72 in all.\n#### 72", "72"),
    ("Half of 10 is 5.\nHe eats 5-3 = 2 of them.\n#### 2", "2"),
    ("There are 1,200 pens at $1.50, so $1800.\nThe answer is $1,800", "1800"),
    ("A third of the 24 goes, that is 1/3.\nThe answer is: \\frac{16}{24}", "2/3"),
    ("It loses 12, then 12 more: -12-12 = -24.\nAnswer: -24", "-24"),
    ("x + 1 = 4\nx = 3\nThe final answer is $x = 3$.", "3"),
    ("We look.\nThe answer is north.", "\\text{north}"),
    ("<think>is it 7, or 8?</think>\nIt is 7, so \\boxed{7}", "7"),
    ("Twice, then\nTotal = 46. It is 46.\n#### 46", "46"),
    ("We look.\n$\\frac{2}{4}$ it is.\nThus\n$\\frac{2}{4}$", "\\frac{1}{2}"),
    ("Hence \\{3,2,1\\}, as we wanted.\nThat is \\{3,2,1\\}", "\\{1,2,3\\}"),
    ("So we have (1,4.5)\nThe answer is (1,4.5)", "(1,\\frac{9}{2})"),
    ("Row by row\n$\\begin{bmatrix}1\\\\2\\end{bmatrix}$\nit is", "\\begin{pmatrix}1\\\\2\\end{pmatrix}"),
    ("First \\boxed{2.5}, better \\boxed{5/2}, as 5/2 = 2.50", "5/2"),
]


@pytest.mark.parametrize("fallback", ["none", "last_number", "last_line"])
def test_no_prefix_that_may_be_drawn_is_right_by_itself(byte_level, fallback) -> None:
    """Every length up to the limit, decoded as an engine decodes it and judged by the verifier of a run; the limit is
    above 0 but for a text that gives its answer away at once."""
    texts, golds = zip(*GSM8K, strict=True)
    with MathVerifier(fallback=fallback) as verifier:
        found = cuts.encode_with_limits(byte_level, texts, golds, verifier)
        for (ids, limit), text, gold in zip(found, texts, golds, strict=True):
            assert 0 < limit < len(ids), text
            prefixes = [byte_level.decode(ids[:length].tolist()) for length in range(1, limit + 1)]
            right = [score.value for score in verifier.score(prefixes, [gold] * limit)]
            assert not any(right), (gold, prefixes[right.index(1.0)])


def test_the_mend_of_a_file_without_boxes_is_named_and_works(tmp_path, capsys) -> None:
    rows = [
        {"prompt": f"p{index}", "answer": gold, "demonstrations": [text]}
        for index, (text, gold) in enumerate(GSM8K[:3])
    ]
    path = tmp_path / "set.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    cli.main(["data", "check", str(path)])
    printed = capsys.readouterr().out
    assert "the verifier rejects all 3 demonstrations (3 no_answer); with --verifier.fallback last_number" in printed
    cli.main(["data", "check", str(path), "--fallback", "last_number"])
    printed = capsys.readouterr().out
    assert "rejects" not in printed and "  -- the latest cut --\n  left       72 in all" in printed


def test_the_check_names_golds_and_demonstrations_that_the_verifier_does_not_take(tmp_path) -> None:
    rows = [
        {"prompt": "a", "answer": "1/2", "demonstrations": ["so \\boxed{0.5}", "so \\boxed{0.6}", "so 1/2"]},
        {"prompt": "b", "answer": "x^2+", "demonstrations": []},
        {"prompt": "c", "answer": "123456789", "demonstrations": ["\\boxed{123456789}"]},
    ]
    path = tmp_path / "set.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with MathVerifier() as verifier:
        found = survey(str(path), Settings(verifier=verifier))
    (gold,) = found.findings[GOLDS]
    assert gold.startswith(f"{path}: row 2 has a gold that the verifier cannot read (unparseable): 'x^2+'")
    assert [sentence.partition(": row 1 ")[2] for sentence in found.findings[REJECTED]] == [
        "has a demonstration (1) that the verifier rejects: different",
        "has a demonstration (2) that the verifier rejects: no_answer",
    ]


def test_the_embedded_task_passes_the_check(tmp_path, capsys) -> None:
    paths = tasks.write_task(tmp_path / "task", chains.FAMILY, train=64, heldout=16)
    make_tokenizer(chains.INSTRUCTION).save_pretrained(tmp_path / "model")
    lengths = ["--model", str(tmp_path / "model"), "--max_len", "128", "--max_new_tokens", "64"]
    cli.main(["data", "check", str(paths["train"]), "--eval", str(paths["heldout"]), *lengths])
    printed = capsys.readouterr().out
    assert "error: /" not in printed and "warning: /" not in printed
    assert printed.endswith("\n0 errors\n")


IMPORT = """
import sys
from pathlib import Path
from openrlhf_prefix.data.convert import convert
from openrlhf_prefix.data.files import iterate
def peak():  # of this process alone: getrusage's number is inherited from the parent
    return next(int(line.split()[1]) / 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))
convert("luffy", sys.argv[1], Path(sys.argv[2]), progress=False)
before = peak()
convert("luffy", sys.argv[3], Path(sys.argv[4]), progress=False)
streamed = peak() - before
hoard = list(iterate(sys.argv[3]))
print(streamed, peak() - before)
"""


@pytest.mark.parametrize("suffix", ["parquet", "jsonl"])
def test_an_import_needs_the_memory_of_a_few_rows(tmp_path, suffix) -> None:
    """12 000 rows of 8 kB, 96 MB of text in one row group, in pages of 1024 rows (8 MB) as pyarrow writes them. The
    peak grows by a few pages, or a few lines, however many rows there are; with all rows held it takes all of them.
    """
    rng = Random(3)
    rows = []
    for index in range(12_000):
        trace = rng.randbytes(4000).hex()
        rows.append(
            {
                "data_source": "s",
                "prompt": [{"role": "user", "content": f"q{index}"}],
                "target": [{"role": "assistant", "content": trace}],
                "reward_model": {"ground_truth": "3", "style": "rule"},
            }
        )
    for name, part in (("small", rows[:10]), ("large", rows)):
        path = tmp_path / f"{name}.{suffix}"
        if suffix == "parquet":
            parquet.write_table(pyarrow.Table.from_pylist(part), path)
        else:
            path.write_text("".join(json.dumps(row) + "\n" for row in part))
    paths = [str(tmp_path / name) for name in (f"small.{suffix}", "a.jsonl", f"large.{suffix}", "b.jsonl")]
    done = subprocess.run([sys.executable, "-c", IMPORT, *paths], cwd=ROOT, capture_output=True, text=True, check=True)
    with (tmp_path / "b.jsonl").open() as file:
        assert sum(1 for _ in file) == 12_000
    streamed, hoarded = map(float, done.stdout.split())
    print(f"peak memory grew by {streamed:.1f} MB, and by {hoarded:.1f} MB with all rows held")
    assert streamed < {"parquet": 64, "jsonl": 4}[suffix] and hoarded > 90


def test_a_run_starts_with_three_samples_and_what_was_left_out(tmp_path, capsys) -> None:
    """Of 8 problems: one prompt of 40 operations goes (context 96, budget 48), one has no demonstration, 7 stay."""
    pytest.importorskip("openrlhf")
    from openrlhf_prefix.data.tiny_model import WarmUp, make_model
    from openrlhf_prefix.runtime.driver.launch import read_problems
    from openrlhf_prefix.settings.resolve import resolve

    model = make_model(tmp_path / "model", recipe=WarmUp(steps=1), progress=False)
    rows = [{"prompt": f"{digit}+2", "answer": "3", "demonstrations": ["1+2=3\n\\boxed{3}"]} for digit in range(8)]
    rows[1]["prompt"] = "1+" * 40
    rows[2]["demonstrations"] = []
    (tmp_path / "set.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    flags = {
        "actor.model_name_or_path": model,
        "actor.num_gpus_per_node": 1,
        "data.prompt_dataset": tmp_path / "set.jsonl",
        "data.apply_chat_template": "true",
        "data.long_prompts": "drop",
        "data.max_len": 96,
        "eval.dataset": tmp_path / "set.jsonl",
        "rollout.max_new_tokens": 48,
        "rollout.batch_size": 4,
        "train.batch_size": 32,
        "vllm.num_engines": 1,
        "run.dir": tmp_path / "run",
    }
    train, held_out = read_problems(
        resolve([word for name, value in flags.items() for word in (f"--{name}", str(value))]).args
    )
    printed = capsys.readouterr().out
    assert [problem.id for problem in train] == ["set-1", *(f"set-{row}" for row in range(3, 9))]
    assert len(held_out) == 7 and not any(problem.demonstrations for problem in held_out)
    # Prompt: 3 of the question, 8 of the template. 1 + 2 = 3 and a newline are six tokens, the box three.
    assert "set-1: prompt 11 tokens; demonstration 9, of which a prefix may have 6" in printed
    assert "  prefix     1+2=3\\n\n  -- the latest cut --\n  left       \\boxed{3}\n" in printed
    assert [line.split(":")[0] for line in printed.splitlines() if line.startswith("set-")] == [
        "set-1",
        "set-4",
        "set-5",
    ]
    assert "a response stops at: 2 '<|im_end|>'" in printed
    assert (
        "7 problems, 6 with demonstrations (1 long prompts dropped, 6 demonstrations capped before their answer); "
        "7 held out, 1 long prompts dropped"
    ) in printed
