"""The texts around a question: what a model is shown decides its score, so they are a table, and have a hash.

    own      the question through the model's own chat template (a benchmark row's system message is left out)
    luffy    the same with LUFFY's system message before it
    qwen     Qwen2.5-Math's template, written out, whatever the model's own is
    zero     "A conversation between User and Assistant ...": for base models that were trained from zero

Sources: eval_scripts/generate_vllm.py and data/valid.all.parquet of LUFFY's repository (01f4ae0), where `zero` is
called `prime`; DeepSeek-R1 (arXiv 2501.12948, table 1) for its wording.
"""

import hashlib
import json
from dataclasses import dataclass


@dataclass(frozen=True)
class Template:
    """`before` + question + `after` as the prompt; with `chat`, the question as a message, after `system`."""

    before: str = ""
    after: str = ""
    chat: bool = False
    system: str | None = None


_LUFFY = (
    "Your task is to follow a systematic, thorough reasoning process before providing the final solution. This "
    "involves analyzing, summarizing, exploring, reassessing, and refining your thought process through "
    "multiple iterations. Structure your response into two sections: Thought and Solution. In the Thought "
    'section, present your reasoning using the format: "<think>\n {thoughts} </think>\n". Each thought should '
    'include detailed analysis, brainstorming, verification, and refinement of ideas. After "</think>\n," in '
    "the Solution section, provide the final, logical, and accurate answer, clearly derived from the "
    "exploration in the Thought section. If applicable, include the answer in \\boxed{} for closed-form "
    "results like multiple choices or mathematical solutions."
)
_ZERO = (
    "A conversation between User and Assistant. The user asks a question, and the Assistant solves it. The "
    "assistant first thinks about the reasoning process in the mind and then provides the user with the "
    "answer. The reasoning process and answer are enclosed within <think> </think> and <answer> </answer> "
    "tags, respectively, i.e., <think> reasoning process here </think> <answer> answer here </answer>. User: "
)
TEMPLATES = {
    "own": Template(chat=True),
    "luffy": Template(chat=True, system=_LUFFY),
    "qwen": Template(
        "<|im_start|>system\nPlease reason step by step, and put your final answer within \\boxed{}.<|im_end|>\n"
        "<|im_start|>user\n",
        "<|im_end|>\n<|im_start|>assistant\n",
    ),
    "zero": Template(_ZERO, "\n\nPresent the answer in LaTex format: \\boxed{Your answer}. Assistant:"),
}


def template_hash(template: Template, chat_template: str | None = None) -> str:
    """16 hex digits that depend on every character; of the model's chat template too where the template uses it."""
    parts = [template.before, template.after, template.system, chat_template if template.chat else None]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
