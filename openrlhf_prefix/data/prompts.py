"""From a row's prompt to text and ids: the chat template, or a text with {} in it, or the prompt as it is.

A chat template writes all special tokens itself. Without one, a tokenizer that begins every text with a BOS gets to do
so here as well, once, whatever the text begins with: a model that was trained with one behaves oddly without.

    Llama-3, template "Q: {}"                      <|begin_of_text|>Q: 1+2?
    Llama-3, template "<|begin_of_text|>Q: {}"     <|begin_of_text|>Q: 1+2?
    Qwen, whose tokenizer adds none                Q: 1+2?

`train`, `data check`, `data stats` and `evaluate` all render prompts here.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from openrlhf_prefix.data.rows import Row, prompt_text

THINK = "<think>"
SHOWN = (  # how a teacher sees a demonstration; after SDFT, arXiv 2601.19897
    "{prompt}\n\nThis is an example of a right response:\n{demonstration}\n\n"
    "Now give a response of your own, with its reasoning."
)
QUESTION = [{"role": "user", "content": "1+2?"}]


@dataclass(frozen=True)
class Prompts:
    """How prompts are made; without a tokenizer they are text alone."""

    tokenizer: Any = None
    chat: bool = True  # by the tokenizer's chat template
    template: str | None = None  # text around a prompt, for {}, where there is no chat template

    def text(self, row: Row, bad: list[str]) -> str | None:
        """The prompt as the model reads it; None, and a sentence in `bad`, when it cannot be made."""
        if self.tokenizer is None or not self.chat:
            if not isinstance(row.prompt, str) and self.tokenizer is not None:
                bad.append(f"row {row.number} has chat messages for a prompt: set --data.apply_chat_template")
                return None
            return self.template.replace("{}", prompt_text(row)) if self.template else prompt_text(row)
        messages = [{"role": "user", "content": row.prompt}] if isinstance(row.prompt, str) else row.prompt
        try:
            return self._render(messages)
        except Exception as error:  # a template is a program: it raises what it likes, jinja2's errors or Python's
            roles = ", ".join(message["role"] for message in messages)
            said = " ".join(str(error).split())[:200] or type(error).__name__
            bad.append(f"row {row.number}: the tokenizer's chat template refuses its messages ({roles}): {said}")
            return None

    def showing(self, row: Row, demonstration: str, template: str | None, bad: list[str]) -> str | None:
        """The prompt with a demonstration in it, as `template` (SHOWN) says; of chat messages the last one has it."""

        def around(prompt: str) -> str:
            parts = {"{prompt}": prompt, "{demonstration}": demonstration}
            return re.sub("|".join(map(re.escape, parts)), lambda found: parts[found[0]], template or SHOWN)

        if isinstance(row.prompt, str):
            return self.text(replace(row, prompt=around(row.prompt)), bad)
        *before, last = row.prompt
        return self.text(replace(row, prompt=[*before, last | {"content": around(last["content"])}]), bad)

    def ids(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Ids of prompts as `text` gives them, with one BOS where the model expects it."""
        found = encode(self.tokenizer, texts)
        if self.chat or self._bos is None:
            return found
        bos = np.asarray([self._bos], dtype=np.int32)
        return [ids if len(ids) and ids[0] == self._bos else np.concatenate([bos, ids]) for ids in found]

    def length(self, text: str) -> int:
        """Tokens of one prompt; characters without a tokenizer."""
        return len(text) if self.tokenizer is None else len(self.ids([text])[0])

    def warning(self) -> str | None:
        """What looks wrong with the chat template, whatever the rows are."""
        if self.tokenizer is None or not self.chat:
            return None
        try:
            asked, bare = self._render(QUESTION), self._render(QUESTION, False)
        except Exception:  # the rows say so, each with its number
            return None
        if asked != bare:
            return None
        return (
            "the tokenizer's chat template ignores the generation prompt: a prompt ends with "
            f"{asked[-30:]!r}, and the model itself has to begin the assistant's turn there, unless this is how it "
            "begins for this model"
        )

    @cached_property
    def _bos(self) -> int | None:
        """The id that the tokenizer puts before every text, when that is its BOS."""
        bos = getattr(self.tokenizer, "bos_token_id", None)
        if bos is None:
            return None
        ids = self.tokenizer(["a1"])["input_ids"][0]
        return bos if ids and ids[0] == bos else None

    def _render(self, messages: list[dict[str, Any]], generation: bool = True) -> str:
        return self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=generation)


def encode(tokenizer: Any, texts: Sequence[str]) -> list[np.ndarray]:
    """Ids without special tokens, (tokens,) int32 each."""
    if not texts:
        return []
    return [np.asarray(ids, dtype=np.int32) for ids in tokenizer(list(texts), add_special_tokens=False)["input_ids"]]


def doubled_thought(prompt: str, demonstration: str) -> bool:
    """Whether a thought that the prompt has opened is opened once more by the demonstration."""
    return prompt.rstrip().endswith(THINK) and demonstration.lstrip().startswith(THINK)
