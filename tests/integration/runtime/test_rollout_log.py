"""Rows of rollouts.jsonl: texts, and the tokens that they are made of."""

from types import SimpleNamespace

import pytest
import torch

pytest.importorskip("openrlhf")

from openrlhf_prefix.runtime.platform import adapter

adapter.choose().install()

from openrlhf.trainer.ppo_utils.experience import Experience  # noqa: E402

from openrlhf_prefix.report.samples import group  # noqa: E402
from openrlhf_prefix.reward.math import REASONS  # noqa: E402
from openrlhf_prefix.runtime.controller.rollout_log import Pieces, rollout_rows  # noqa: E402
from openrlhf_prefix.settings.resolve import flags_of  # noqa: E402

CHARACTERS = ["<pad>", "2", "+", "=", "4", " so ", "<end>"]


class Words:
    """Its tokens are words that stand for themselves."""

    def decode(self, tokens: torch.Tensor, skip_special_tokens: bool) -> str:
        assert not skip_special_tokens
        return "".join(CHARACTERS[int(token)] for token in tokens)


class Bytes:
    """A token is a byte of UTF-8, as in byte-level tokenizers; what is no character is a replacement character."""

    def decode(self, tokens: torch.Tensor, skip_special_tokens: bool) -> str:
        return bytes(tokens.tolist()).decode(errors="replace")


def flags(imitation: str = "policy") -> SimpleNamespace:
    sizes = {"actor.num_gpus_per_node": 1, "vllm.num_engines": 1, "train.batch_size": 2, "train.micro_batch_size": 1}
    sizes |= {"rollout.batch_size": 1, "rollout.n_samples_per_prompt": 2, "rollout.max_new_tokens": 12}
    return flags_of(
        {
            "reward.remote_url": "math-verify",
            "hybrid.imitation": imitation,
            "prefix.keep": 1.0,
            "run.rollout_groups": -1,
            **sizes,
        }
    )


def rows_of(one: Experience, args: SimpleNamespace | None = None) -> list[dict]:
    return rollout_rows([one], Words(), args or flags())


def experience(log_probs: list[float]) -> Experience:
    """Prompt "2+", a prefix of "2=", then " so 4<end>" and one token of padding: action 0 speaks of token 1."""
    tokens = [1, 2, 1, 3, 5, 4, 6, 0]
    return Experience(
        sequences=torch.tensor([tokens]),
        attention_mask=torch.tensor([[1] * 7 + [0]]),
        action_mask=torch.tensor([[0, 1, 1, 1, 1, 1, 0]]).bool(),
        action_log_probs=torch.tensor([[0.0, *log_probs, 0.0]]),
        advantages=torch.tensor([[9.0, 0.0, 0.5, 0.5, 0.5, 0.5, 9.0]]),
        rewards=torch.tensor([1.0]),
        truncated=torch.tensor([False]),
        index=[3],
        prompts=["p"],
        labels=["4"],
        info={
            "prefix_length": torch.tensor([2]),
            "return": torch.tensor([0.5]),
            "prefix_advantage": torch.tensor([0.5]),
            "reward_failed": torch.tensor([False]),
            "verdict": torch.tensor([float(REASONS.index("equal"))]),
        },
    )


def test_a_row_by_hand() -> None:
    """Of the prefix the second token has an advantage: it is the one that trains."""
    (row,) = rows_of(experience([-1.0, -2.0, -0.123456, -0.5, 0.0]))
    assert (row["group"], row["slot"], row["prompt"], row["prefix"]) == (1, 1, "2+", "2=")
    assert row["continuation"] == " so 4<end>" and row["kept"] == [1] and row["verdict"] == "equal"
    assert row["token_lengths"] == [1, 1, 4, 1, 5] and row["log_probs"] == [-1.0, -2.0, -0.123, -0.5, 0.0]
    (shown,) = group([row | {"step": 1}])["rows"]
    assert shown["tokens"] == [1, 1, 4, 1, 5] and shown["kept"] == [1] and shown["length"] == 5


def test_log_probs_that_nobody_measured_are_absent() -> None:
    (row,) = rows_of(experience([float("nan")] * 5))
    assert "log_probs" not in row and row["token_lengths"] == [1, 1, 4, 1, 5]


def test_where_demonstrations_are_imitated_every_prefix_token_trains() -> None:
    """By their likelihood, whatever their advantages; but for a row that a failed reward took out."""
    one, args = experience([-1.0] * 5), flags(imitation="nll")
    assert rows_of(one, args)[0]["kept"] == [0, 1]
    one.info["reward_failed"] = torch.tensor([True])
    assert rows_of(one, args)[0]["kept"] == [] and rows_of(one)[0]["reward_failed"]


def test_the_first_groups_are_kept() -> None:
    """Its row is the fourth, in the second group of two."""
    args = flags()
    args.run.rollout_groups = 1
    assert rows_of(experience([-1.0] * 5), args) == []
    args.run.rollout_groups = 2
    assert len(rows_of(experience([-1.0] * 5), args)) == 1


def test_a_character_of_several_tokens_belongs_to_the_last() -> None:
    """An emoji is four bytes, the euro sign three: 1 character each, in the last of their tokens."""
    text = "a\U0001f600b\u20ac"
    tokens = torch.tensor(list(text.encode()))
    assert Pieces(Bytes()).lengths(tokens, text) == [1, 0, 0, 0, 1, 1, 0, 0, 1]


def test_a_text_that_is_cut_within_a_character_adds_up_too() -> None:
    tokens = torch.tensor(list("a\u20ac".encode())[:-1])
    text = Bytes().decode(tokens, False)
    assert sum(Pieces(Bytes()).lengths(tokens, text)) == len(text)


def test_a_tokenizer_whose_texts_are_no_sums_has_no_tokens() -> None:
    """As those do that drop a space at the start of whatever they decode."""
    assert Pieces(Words()).lengths(torch.tensor([1, 2]), "2 +") is None
