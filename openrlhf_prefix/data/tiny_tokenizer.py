"""Tokenizers of the embedded models: one of a family's few characters, or one learnt from a task's text."""

from collections.abc import Iterable

from tokenizers import AddedToken
from transformers import Qwen2Tokenizer

PAD, START, END = "<|pad|>", "<|im_start|>", "<|im_end|>"
# No token is the beginning of another one: any sequence of ids is recovered from its text. The instruction of a task
# never varies, so it is one token, which halves the prompt.
ROLES = ["system", "user", "assistant"]
CHARACTERS = [*"0123456789", *"+-*=}", "\u0120", "\u010a"]  # the last two: byte-level BPE's space and newline
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def make_tokenizer(instruction: str) -> Qwen2Tokenizer:
    """A Qwen2 tokenizer without merges over the alphabet of a task; it drops characters it does not know.

    It has to be of this class: for a checkpoint of type qwen2, AutoTokenizer builds this class whatever was saved.
    """
    words = [*ROLES, instruction, "\\boxed{"]
    vocabulary = {token: index for index, token in enumerate([PAD, START, END, *words, *CHARACTERS])}
    tokenizer = Qwen2Tokenizer(
        vocab=vocabulary,
        merges=[],
        pad_token=PAD,
        eos_token=END,
        unk_token=PAD,
        extra_special_tokens=[START],
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
        padding_side="left",
        model_max_length=512,
    )
    tokenizer.add_tokens([AddedToken(word, normalized=False) for word in words])
    return tokenizer


def learn_tokenizer(texts: Iterable[str], size: int) -> Qwen2Tokenizer:
    """Byte-level BPE of at most `size` tokens with the same template; what `texts` do not have is spelt in bytes."""
    return make_tokenizer("").train_new_from_iterator(texts, vocab_size=size, model_max_length=1024)


def render_prompt(tokenizer: Qwen2Tokenizer, prompt: str) -> str:
    """The prompt as reinforcement learning will send it."""
    messages = [{"role": "user", "content": prompt}]
    return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
