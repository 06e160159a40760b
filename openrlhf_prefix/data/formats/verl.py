"""verl rows without demonstrations: DAPO-Math-17k, Skywork-OR1-RL-Data and most sets for reinforcement alone.

    prompt         [{"role": "user", "content": ..}]
    reward_model   {"ground_truth": "34", "style": "rule"}; Skywork writes a list into a text: "[\\"34\\"]"
    data_source    "math_dapo"        ability, extra_info   not used: extra_info.index is not unique

Source: verl's documentation of its rows. The problems get plain rollouts only, and can stand beside others that have
demonstrations. DAPO's prompts ask for a last line "Answer: 34" and not for a box: --verifier.fallback last_line.
"""

from typing import Any

from openrlhf_prefix.data.formats.parts import answer, chat, contract, optional


def verl(row: dict[str, Any]) -> list[dict[str, Any]]:
    """One contract row. Raises Fault."""
    return contract(
        [],
        prompt=chat(row, "prompt"),
        answer=answer(row, "reward_model.ground_truth"),
        source=optional(row, "data_source"),
    )
