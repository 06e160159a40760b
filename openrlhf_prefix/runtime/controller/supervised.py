"""The supervised stage: global steps on whole demonstrations alone, before the first rollout.

A step has as many rows as a rollout batch, all trained with `hybrid.sft_imitation` (their negative log-likelihood
unless something else is asked for), divided by the demonstration tokens of the optimizer step, and counts as one
global step: the problems that it takes the place of are passed over, so that runs with and without this stage have the
same number of steps. It ends at `hybrid.sft_steps`, or where the loss on held-out demonstrations, measured every
`hybrid.sft_validate` steps, has risen for the first time: at its minimum, up to one interval. Held out are the
demonstrations of a tenth of the problems, a step's rows at the most; rollouts see these problems like all others.
Learning rate `hybrid.sft_lr`; the optimizer goes on into the next stage with its moments.
Source: arXiv 2604.23747; the minimum of the validation loss: arXiv 2512.11470.
"""

import time
from typing import Any

import torch
from openrlhf.trainer.ppo_utils.experience import Experience

from openrlhf_prefix.algorithm.imitation import watched
from openrlhf_prefix.errors import RunStopped
from openrlhf_prefix.runtime.controller.demonstrations import Demonstrations
from openrlhf_prefix.runtime.rows.batches import deal
from openrlhf_prefix.runtime.rows.loss import hybrid_loss, trained_tokens
from openrlhf_prefix.settings.derived import data_parallel_ranks


class SupervisedStage:
    """Runs in the controller.

    Args:
        controller: its groups, experience maker, files and trackers are used.
        steps: where the stage ends at the latest.
        every: steps between two measurements of the loss on the held-out demonstrations; 0 for none.
    """

    def __init__(self, controller: Any, demonstrations: Demonstrations, steps: int, every: int = 0) -> None:
        self.controller, self.demonstrations, self.end, self.every = controller, demonstrations, steps, every
        self.args = controller.args
        self.rows = self.args.rollout.batch_size * self.args.rollout.n_samples_per_prompt
        self.losses: list[float] = []  # on the held-out demonstrations

    def run(self, step: int) -> int:
        """Trains from global step `step` to the end of the stage; returns the global step that comes next."""
        while step < self.end:
            started = time.time()
            status = self._train(step)
            step += 1
            if self.every and step % self.every == 0:
                status["sft/validation_loss"] = self._validate()
            status["timing/step_total"] = time.time() - started
            self.controller.save_logs_and_checkpoints(step, status, self.position(step))
            if step % self.args.eval.steps == 0 and self.controller.eval_dataloader:
                self.controller.broadcast_to_vllm()
                self.controller.evaluate(step, **self.controller.eval_kwargs())
                self.controller.finish_evaluation()
        return step

    def position(self, step: int) -> dict[str, Any]:
        """Where the loop over problems goes on after `step` steps, in the form of OpenRLHF's checkpoint states."""
        consumed = step * self.args.rollout.batch_size
        episode, place = divmod(consumed, len(self.controller.prompts_dataloader))
        return {
            "episode": episode,
            "global_step": step,
            "total_consumed_prompts": consumed,
            "data_loader_state_dict": {"episode": episode, "position": place},
        }

    def _train(self, step: int) -> dict[str, Any]:
        rows = self.demonstrations.batch(step, self.rows)
        loss = hybrid_loss(self.args, supervised=True)
        tokens = [trained_tokens(row, loss) for row in rows]
        every = [True] * len(rows)
        self.controller.train_on(deal(rows, self.args.train.batch_size, data_parallel_ranks(self.args), every))
        counts = {"sft/rows": float(len(rows)), "rollout/tokens_generated": 0.0, "train/tokens": float(sum(tokens))}
        return self.controller.ppo_train(step) | counts

    def _validate(self) -> float:
        """What the stage lowers, as a mean over the held-out demonstrations' tokens; a first rise ends the stage."""
        maker = self.controller.experience_maker
        rows = [self.demonstrations.row(key, 0) for key in self.demonstrations.validation]
        batches = maker.split_rollout_samples(rows)
        loss = validation_loss(batches, maker.log_probs(batches), self.args.hybrid.sft_imitation)
        if self.losses and loss > self.losses[-1]:
            self.end = 0
        self.losses.append(loss)
        return loss

    def state_dict(self) -> dict[str, Any]:
        return {"end": self.end, "losses": list(self.losses)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.end, self.losses = state["end"], list(state["losses"])


def validation_loss(batches: list[Experience], log_probs: list[torch.Tensor], imitation: str) -> float:
    """Mean over the action tokens of all batches of what that row of the table lowers: -log p for nll, -p for dft."""
    total = count = 0.0
    for batch, of_batch in zip(batches, log_probs, strict=True):
        mask = batch.action_mask.bool()
        total += watched(imitation, of_batch[mask].double()).sum().item()
        count += mask.sum().item()
    if not count:
        raise RunStopped("the held-out demonstrations have no token")
    return total / count
