r"""What a prefixed row looks like, for a person to check before hours of training: three samples at a run's start.

    chains-train-00000: prompt 9 tokens; demonstration 21, of which a prefix may have 18
      prompt     ...user\nLeft to right, modulo 10: 7+4*3-8<|im_end|>\n<|im_start|>assistant\n
      prefix     7+4=1\n1*3=3\n3-8=5\n
      -- the latest cut --
      left       \boxed{5}

The prompt must end where the assistant begins, without a doubled tag; the prefix must not hold the answer; and the
engine must stop at what ends a turn of this model.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from openrlhf_prefix.data.problems import DOUBLED, Problem
from openrlhf_prefix.data.prompts import Prompts

SAMPLES = 3
SHOWN = 90  # characters of each part


def report(
    problems: Sequence[Problem], tokenizer: Any, stop_ids: Sequence[int], stop_strings: Sequence[str] = ()
) -> str:
    """The text of the start-up report: problems with a usable demonstration first in the file, then the stop ids.

    Args:
        stop_ids: ids at which the engine ends a response; their text is shown beside them.
        stop_strings: texts at which it ends one.
    """
    shown = [problem for problem in problems if any(problem.limits)][:SAMPLES]
    lines = [line for problem in shown for line in _sample(problem, tokenizer)]
    stops = [f"{index} {tokenizer.decode([index])!r}" for index in stop_ids] + [repr(text) for text in stop_strings]
    return "\n".join([*lines, f"a response stops at: {', '.join(stops)}"])


def _sample(problem: Problem, tokenizer: Any) -> list[str]:
    index = next(index for index, limit in enumerate(problem.limits) if limit)
    ids, limit = problem.demonstrations[index].tolist(), problem.limits[index]
    prompt = problem.prompt_ids.tolist()
    # Decoded for the eye only: what trains are the ids.
    return [
        f"{problem.id}: prompt {len(prompt)} tokens; demonstration {len(ids)}, of which a prefix may have {limit}",
        *cut_lines(tokenizer.decode(prompt), tokenizer.decode(ids[:limit]), tokenizer.decode(ids[limit:])),
    ]


def cut_lines(prompt: str, prefix: str, left: str) -> list[str]:
    """The lines of one sample: ends of prompt and prefix, the cut, and the start of what is left."""
    return [
        f"  prompt     {_tail(prompt)}",
        f"  prefix     {_tail(prefix)}",
        "  -- the latest cut --",
        f"  left       {_head(left)}",
    ]


def _tail(text: str) -> str:
    return _escaped(text if len(text) <= SHOWN else f"...{text[-SHOWN:]}")


def _head(text: str) -> str:
    return _escaped(text if len(text) <= SHOWN else f"{text[:SHOWN]}...")


def _escaped(text: str) -> str:
    return text.replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t")


def counts_line(problems: Sequence[Problem], counts: Mapping[str, int]) -> str:
    """What the set holds and what was left out: "320 problems, 300 with demonstrations (12 long prompts dropped)"."""
    usable = sum(any(problem.limits) for problem in problems)
    notes = ", ".join(f"{count} {what}" for what, count in Counter(counts).items() if count)
    return f"{len(problems)} problems, {usable} with demonstrations" + (f" ({notes})" if notes else "")


def warnings(prompts: Prompts, counts: Mapping[str, int]) -> list[str]:
    """What a person should look at before the run goes on, though nothing of it is refused."""
    found = [prompts.warning()]
    if counts.get(DOUBLED):
        found.append(
            f"{counts[DOUBLED]} {DOUBLED}: a thought is opened twice in such rows; take <think> out of the "
            "demonstrations, or out of the chat template"
        )
    return [warning for warning in found if warning]
