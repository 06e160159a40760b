"""The parquet of the authors' Prefix-RFT recipe: verl rows with `demos` and `demos_corr`.

    prompt         [{"role": "user", ..}]
    demos          ["...", "..."], one demonstration an element; may be empty or null
    demos_corr     [true, false], whether each is right; absent or empty: all are
    reward_model   {"ground_truth": "3"}          data_source   "openr1"

Source: recipe/prefix_rft/rl_dataset.py of github.com/ZeroYuHuang/prefix_rft. Demonstrations marked as wrong are left
out (and counted): a prefix of one would lead the policy astray.
"""

from typing import Any

from openrlhf_prefix.data.formats.parts import Fault, answer, chat, contract, elements, optional, same_length


def prefix_rft(row: dict[str, Any]) -> list[dict[str, Any]]:
    """One contract row. Raises Fault."""
    demonstrations = elements(row, "demos", str)
    for index, text in enumerate(demonstrations):
        if not text.strip():
            raise Fault(f"has an empty text as element {index} of column 'demos'")
    right = [True] * len(demonstrations)
    if optional(row, "demos_corr"):
        right = elements(row, "demos_corr", bool)
        same_length(row, "demos", "demos_corr")
    kept = [text for text, good in zip(demonstrations, right, strict=True) if good]
    return contract(
        kept,
        len(demonstrations) - len(kept),
        prompt=chat(row, "prompt"),
        answer=answer(row, "reward_model.ground_truth"),
        source=optional(row, "data_source"),
    )
