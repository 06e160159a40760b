"""Rows of rollouts.jsonl: what a person wants to see of a rollout, as text and token by token."""

from concurrent.futures import Future, ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import torch
from openrlhf.trainer.ppo_utils.experience import Experience

from openrlhf_prefix.report.run_folder import RunFolder
from openrlhf_prefix.reward.math import REASONS
from openrlhf_prefix.runtime.controller.trackers import Trackers
from openrlhf_prefix.runtime.rows.fields import counts, prefix_mask_of
from openrlhf_prefix.runtime.rows.loss import hybrid_loss

BROKEN = "\ufffd"  # what a tokenizer gives for a part of a character


class RolloutLog:
    """Writes them in a thread of its own, while the step goes on.

    Args:
        folder: of the run.
        trackers: get some of the rows.
        args: nested flags.
    """

    def __init__(self, folder: RunFolder, trackers: Trackers, tokenizer: Any, args: SimpleNamespace) -> None:
        self.folder, self.trackers, self.tokenizer, self.args = folder, trackers, tokenizer, args
        self._thread = ThreadPoolExecutor(1, "rollouts")
        self._under_way: Future[None] | None = None

    def write(self, experiences: list[Experience], step: int) -> None:
        self.wait()
        self._under_way = self._thread.submit(self._write, experiences, step)

    def wait(self) -> None:
        """Until all is written. Raises what kept it from that."""
        if self._under_way:
            under_way, self._under_way = self._under_way, None
            under_way.result()

    def _write(self, experiences: list[Experience], step: int) -> None:
        rows = rollout_rows(experiences, self.tokenizer, self.args)
        self.folder.append("rollouts", [{"step": step, **row} for row in rows])
        if step % self.args.logger.logging_steps == 0:
            self.trackers.log_samples(step, rows)


def rollout_rows(experiences: list[Experience], tokenizer: Any, args: SimpleNamespace) -> list[dict[str, Any]]:
    """One dictionary per rollout of the first run.rollout_groups groups (all where it is negative), in their order."""
    group_size, groups = args.rollout.n_samples_per_prompt, args.run.rollout_groups
    rows = [
        (index, experience, place)
        for experience in experiences
        for place, index in enumerate(experience.index)
        if groups < 0 or index < groups * group_size
    ]
    pieces, loss = Pieces(tokenizer), hybrid_loss(args)
    trained = {
        id(experience): loss.learns_from(
            experience.action_mask.bool() & counts(experience.info["reward_failed"], args).unsqueeze(-1),
            prefix_mask_of(experience),
            experience.advantages,
        )
        for experience in experiences
    }
    return [
        {
            "group": index // group_size,
            "slot": index % group_size,
            **_row(experience, place, pieces, trained[id(experience)][place]),
        }
        for index, experience, place in sorted(rows, key=lambda row: row[0])
    ]


def _row(experience: Experience, place: int, pieces: "Pieces", trained: torch.Tensor) -> dict[str, Any]:
    # action_mask[:, j] speaks of the token at j + 1.
    actions = experience.action_mask[place].nonzero().flatten()
    start, end = int(actions[0]) + 1, int(actions[-1]) + 2
    length = int(experience.info["prefix_length"][place])
    tokens, alone = experience.sequences[place], experience.info.get("solves_alone")
    prefix, continuation = tokens[start : start + length], tokens[start + length : end]
    texts = [pieces.text(part) for part in (tokens[:start], prefix, continuation)]
    row = {
        "problem": experience.prompts[place],
        "answer": experience.labels[place],
        "prompt": texts[0],
        "prefix": texts[1],
        "continuation": texts[2],
        "reward": float(experience.rewards[place]),
        "advantage": float(experience.info["return"][place]),
        "prefix_advantage": float(experience.info["prefix_advantage"][place]),
        "prefix_length": length,
        "prefix_solves_alone": alone is not None and float(alone[place]) == 1.0,
        "truncated": bool(experience.truncated[place]),
        "reward_failed": bool(experience.info["reward_failed"][place]),
        "kept": trained[start - 1 :][:length].nonzero().flatten().tolist(),
    }
    if "verdict" in experience.info:
        row["verdict"] = REASONS[int(experience.info["verdict"][place])]
    lengths = [pieces.lengths(*part) for part in ((prefix, texts[1]), (continuation, texts[2]))]
    if None not in lengths:
        row["token_lengths"] = lengths[0] + lengths[1]
    log_probs = experience.action_log_probs[place, start - 1 : end - 1]
    if not log_probs.isnan().any():  # nobody had to know them (rows/loss.py)
        row["log_probs"] = [round(value, 3) for value in log_probs.tolist()]
    return row


class Pieces:
    """How many characters of a text each of its tokens has; every token of a step is decoded once."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.known: dict[int, str] = {}

    def text(self, tokens: torch.Tensor) -> str:
        return self.tokenizer.decode(tokens, skip_special_tokens=False)

    def lengths(self, tokens: torch.Tensor, text: str) -> list[int] | None:
        """One for each token, that sum up to the text's; None where the text is more than its tokens one by one, as
        with tokenizers that join words by rules.

        A character of several tokens belongs to the last of them.
        """
        found, start = [], 0
        ids = tokens.tolist()
        for place, token in enumerate(ids):
            piece = self._piece(token) if start == place else self.text(torch.tensor(ids[start : place + 1]))
            broken = BROKEN in piece and place + 1 < len(ids)
            found.append("" if broken else piece)
            start = start if broken else place + 1
        return [len(piece) for piece in found] if "".join(found) == text else None

    def _piece(self, token: int) -> str:
        if token not in self.known:
            self.known[token] = self.text(torch.tensor([token]))
        return self.known[token]
