"""Published data sets in their own layouts: FORMATS[name](row) gives rows of the contract, or what is wrong.

    FORMATS["openr1"]({"problem": "1+2?", "answer": "3", "generations": ["so \\boxed{3}"], ...})
        -> [{"prompt": "1+2?", "answer": "3", "demonstrations": ["so \\boxed{3}"]}]
    FORMATS["openr1"]({"problem": "1+2?", "answer": None, ...})  ->  "has nothing in column 'answer'"

One file a layout; another layout is one more function and one more line of the table. Demonstrations that a data set
itself marks as wrong are left out, and their number stands in the row as `rejected_demonstrations`.
"""

from collections.abc import Callable
from typing import Any

from openrlhf_prefix.data.formats.luffy import luffy
from openrlhf_prefix.data.formats.messages import messages
from openrlhf_prefix.data.formats.openr1 import openr1
from openrlhf_prefix.data.formats.parts import Fault, Reader
from openrlhf_prefix.data.formats.prefix_rft import prefix_rft

Format = Callable[[dict[str, Any]], list[dict[str, Any]] | str]


def _answering(reader: Reader) -> Format:
    """The reader with its Fault as a sentence instead of an exception."""

    def read(row: dict[str, Any]) -> list[dict[str, Any]] | str:
        try:
            return reader(row)
        except Fault as fault:
            return str(fault)

    return read


FORMATS: dict[str, Format] = {reader.__name__: _answering(reader) for reader in (luffy, prefix_rft, openr1, messages)}
"""name -> function of one row, as a dictionary, that gives a list of contract rows or a sentence."""
