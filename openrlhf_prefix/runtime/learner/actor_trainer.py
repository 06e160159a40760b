"""The training loop of one actor rank: optimizer steps of the hybrid loss over a rollout batch.

Takes the place of OpenRLHF's ppo_train and training_step: the forward pass, the engine, the weight sync and the flags
stay upstream's. What is ours is the bookkeeping that decides whether a gradient is right. The rows, action tokens and
sampled tokens of an optimizer step were counted over all ranks before any row left it (rows/batches.py), each
micro-batch contributes its share of one loss (algorithm/hybrid.py), and the step ends where it should
(accumulation.py).
"""

import math
import resource
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from openrlhf.models.utils import compute_approx_kl
from openrlhf.trainer.ppo_utils.experience import Experience, make_experience_batch
from openrlhf.trainer.ray.ppo_actor import ActorPPOTrainer

from openrlhf_prefix.algorithm.hybrid import LossRows, StepCounts
from openrlhf_prefix.errors import RunStopped
from openrlhf_prefix.runtime.learner import accumulation, head
from openrlhf_prefix.runtime.learner.average import Average
from openrlhf_prefix.runtime.learner.masking import Mask
from openrlhf_prefix.runtime.learner.metric_sums import MetricSums
from openrlhf_prefix.runtime.learner.sender import Sender
from openrlhf_prefix.runtime.platform import adapter
from openrlhf_prefix.runtime.rows.batches import blank, counts_of, micro_batches, optimizer_steps
from openrlhf_prefix.runtime.rows.fields import contrast_of, prefix_mask_of, teacher_of
from openrlhf_prefix.runtime.rows.loss import forwards_every_row, hybrid_loss, on_policy
from openrlhf_prefix.settings import plugins

SKIPPED_LIMIT = 3  # optimizer steps in a row


def scale_learning_rate(scheduler: Any, factor: float) -> None:
    """From the next optimizer step on, every learning rate of the schedule is `factor` times what the flags say."""
    groups = scheduler.optimizer.param_groups
    scheduler.base_lrs = [factor * group["initial_lr"] for group in groups]
    for group, base, shape in zip(groups, scheduler.base_lrs, scheduler.lr_lambdas, strict=True):
        group["lr"] = base * shape(scheduler.last_epoch)
    scheduler._last_lr = [group["lr"] for group in groups]


def hold_at_end(scheduler: Any, steps: int) -> None:
    """After its `steps` optimizer steps the schedule stays where it ends; a cosine would rise again."""
    scheduler.lr_lambdas = [partial(_held, shape, steps) for shape in scheduler.lr_lambdas]


def _held(shape: Callable[[int], float], steps: int, step: int) -> float:
    return shape(min(step, steps))


class PrefixActorTrainer(ActorPPOTrainer):
    """OpenRLHF's actor trainer with the hybrid loss and exact accumulation."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        plugins.load(self.args.hybrid.plugin)
        head.fuse(self.actor, self.args, "the policy")
        self.engine = self.actor.model
        self.ranks = self.strategy.ds_device_mesh["dp"].get_group()
        self.sender = Sender(self)
        self.prepare(self.args.hybrid.imitation_coef)
        self.skipped_in_a_row = 0  # optimizer steps, see _count_skipped
        self.average: Average | None = None  # of the weights; set by the actor where train.enable_ema asks for one
        self.mask: Mask | None = None  # of those that train; set by the actor where mask.method asks for one

    def prepare(
        self,
        imitation_coef: float,
        measure_prefix: bool = False,
        supervised: bool = False,
        teacher_coef: float = 0.0,
    ) -> None:
        """Called before every rollout batch.

        Args:
            imitation_coef: weight of the imitation term.
            measure_prefix: whether to measure the prefix tokens' own gradient, one more pass over an optimizer step.
            supervised: the rows are whole demonstrations, to be trained by their likelihood at hybrid.sft_lr.
            teacher_coef: weight of the teacher's term, on the rows that carry its log-probs.
        """
        self.imitation_coef, self.measure_prefix, self.teacher_coef = imitation_coef, measure_prefix, teacher_coef
        self.hybrid_loss = hybrid_loss(self.args, supervised)
        self.on_policy = on_policy(self.args)
        # Where those of the policy were not measured before the step, they are measured in it.
        unmeasured = not supervised and not forwards_every_row(self.args)
        self.measure_entropy = unmeasured or self.hybrid_loss.entropy_coef is not None
        if self.args.hybrid.sft_lr is not None:
            scale_learning_rate(
                self.actor_scheduler, self.args.hybrid.sft_lr / self.args.actor.adam.lr if supervised else 1.0
            )

    def broadcast_to_vllm(self) -> None:
        self.sender.send()

    def state_dict(self) -> dict[str, int]:
        return {"skipped_in_a_row": self.skipped_in_a_row}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.skipped_in_a_row = state["skipped_in_a_row"]

    def ppo_train(self, kl_ctl: float) -> dict[str, float | None]:
        """Trains on the rows of the replay buffer; returns the metrics of the rollout batch."""
        self.actor.train()
        sums, last, skipped = MetricSums(), {}, 0
        rows = optimizer_steps(self.replay_buffer.items)
        steps = micro_batches(rows, self.args, self.ranks)
        if of_prefix := self._prefix_gradient(rows[0]) if self.measure_prefix and rows else None:
            last["prefix/gradient"] = of_prefix
        for _ in range(self.max_epochs):
            for step in steps:
                applied = self._optimizer_step(step, kl_ctl, sums)
                if of_prefix and applied and (norm := self.strategy.get_grad_norm(self.actor)):
                    last["prefix/gradient_share"] = of_prefix / norm
                of_prefix, skipped = None, skipped + (not applied)  # both are those of the first step
        last["skipped_steps"] = float(skipped)
        last["actor_grad_norm"] = None if self.skipped_in_a_row else self.strategy.get_grad_norm(self.actor)
        last["actor_lr"] = self.actor_scheduler.get_last_lr()[0]
        last["memory/learner"] = peak_memory()
        if self.mask:
            last["mask/share"] = self.mask.share
        return sums.means(self.ranks) | last

    def _optimizer_step(self, step: list[list[Experience]], kl_ctl: float, sums: MetricSums) -> bool:
        """Returns whether the step was applied: one with a loss or gradient that is not finite is left out."""
        counts, of_step = counts_of(step), MetricSums()
        losses: list[torch.Tensor] = []

        def share(batch: list[Experience]) -> torch.Tensor:
            loss = self._loss(batch, counts, kl_ctl, of_step)
            losses.append(loss.detach().float())
            return loss

        self._accumulate([partial(share, batch) for batch in step])
        if self._finite(losses) and accumulation.finite_gradient(self.engine):
            self.strategy.optimizer_step(self.actor_optim, self.actor, self.actor_scheduler, name="actor")
            applied = self.engine.was_step_applied()  # false after DeepSpeed found a gradient that is not finite
        else:
            accumulation.discard(self.engine)
            applied = False
        self._count_skipped(applied)
        if applied:
            sums.merge(of_step)
            if self.average:
                self.average.update()
        return applied

    def _accumulate(self, losses: list[Callable[[], torch.Tensor]]) -> None:
        """The gradient of a step, as far as the mask lets it through."""
        accumulation.accumulate(self.engine, losses)
        if self.mask:
            self.mask.apply()

    def _finite(self, losses: list[torch.Tensor]) -> bool:
        """Whether the losses of all micro-batches of all ranks are finite; the same answer on all ranks."""
        wrong = (~torch.stack(losses).isfinite()).sum()
        dist.all_reduce(wrong)
        return wrong.item() == 0

    def _count_skipped(self, applied: bool) -> None:
        """RunStopped after three skipped steps in a row."""
        self.skipped_in_a_row = 0 if applied else self.skipped_in_a_row + 1
        if self.skipped_in_a_row == SKIPPED_LIMIT:
            raise RunStopped(
                f"{SKIPPED_LIMIT} optimizer steps in a row had a loss or a gradient that is not finite, and none was "
                "applied: go back to a checkpoint with a lower actor.adam.lr in a new run, or look at the rewards"
            )

    def _prefix_gradient(self, rows: list[Experience]) -> float | None:
        """Norm of the gradient that the prefix tokens of a step have by themselves; nothing is applied."""
        counts = counts_of([rows])
        prefixed = [row for row in rows if int(row.info["prefix_length"])] or [blank(rows[0])]
        (step,) = micro_batches([prefixed], self.args, self.ranks)
        self._accumulate([partial(self._prefix_loss, batch, counts) for batch in step])
        norm = accumulation.gradient_norm(self.engine)
        accumulation.discard(self.engine)
        return norm if counts.tokens > counts.sampled and math.isfinite(norm) else None

    def _loss(self, batch: list[Experience], counts: StepCounts, kl_ctl: float, sums: MetricSums) -> torch.Tensor:
        """Forward pass and loss of one micro-batch; the factor undoes the engine's mean over data-parallel ranks."""
        rows, inputs, output = self._forward(batch)
        loss, of_batch = self.hybrid_loss(inputs, counts, kl_ctl, self.imitation_coef, self.teacher_coef)
        sums.add(of_batch | {"train/padding": padding(rows, self.args.ds.packing_samples)})
        if self.aux_loss:  # of a mixture of experts: a mean over rows, like the others over the whole step
            share = (inputs.action_mask.any(-1).sum() / max(counts.rows, 1.0)).to(loss.dtype)
            loss = loss + self.args.actor.aux_loss_coef * output.aux_loss * share
        return loss * dist.get_world_size(self.ranks)

    def _prefix_loss(self, batch: list[Experience], counts: StepCounts) -> torch.Tensor:
        """The same of the prefix tokens alone."""
        _, inputs, _ = self._forward(batch)
        return self.hybrid_loss.prefix_part(inputs, counts, self.imitation_coef) * dist.get_world_size(self.ranks)

    def example_loss(self, row: Experience) -> torch.Tensor:
        """Mean of -log p over the action tokens of one row: what a mask's scores are the gradients of."""
        _, inputs, _ = self._forward([row])
        return -inputs.log_probs[inputs.action_mask].mean()

    def _forward(self, batch: list[Experience]) -> tuple[Experience, LossRows, Any]:
        """One micro-batch, what its loss looks at, and the model's output."""
        rows = make_experience_batch(batch, self.args.ds.packing_samples).to_device(torch.cuda.current_device())
        log_probs, output = self.actor(
            rows.sequences,
            rows.action_mask,
            attention_mask=rows.attention_mask,
            return_output=True,
            ring_attn_group=self.strategy.ring_attn_group,
            return_entropy=self.measure_entropy,
        )
        return rows, self._loss_rows(rows, log_probs, output), output

    def _loss_rows(self, rows: Experience, log_probs: torch.Tensor, output: Any) -> LossRows:
        kl = entropy = None
        width = rows.action_mask.shape[1]
        action = rows.action_mask.bool()
        if self.args.algo.kl.use_loss and rows.base_action_log_probs is not None:
            zero = torch.zeros_like(log_probs)
            kl = compute_approx_kl(
                *(torch.where(action, values, zero) for values in (log_probs, rows.base_action_log_probs)),
                log_probs_old=torch.where(action, rows.action_log_probs, zero),
                kl_estimator=self.args.algo.kl.estimator,
                unbiased_gradient=self.args.algo.kl.unbiased_gradient,
            )
        if self.measure_entropy:
            entropy = output.entropy[:, -width:]
            entropy = entropy if self.hybrid_loss.entropy_coef else entropy.detach()
        return LossRows(
            log_probs=log_probs,
            old_log_probs=log_probs.detach() if self.on_policy else rows.action_log_probs,
            advantages=rows.advantages,
            action_mask=action,
            prefix_mask=prefix_mask_of(rows),
            rollout_log_probs=rows.rollout_log_probs,
            kl=kl,
            entropy=entropy,
            row_entropy=_of_rows(rows, "row_entropy"),
            reference=rows.base_action_log_probs,
            teacher=teacher_of(rows),
            contrast=contrast_of(rows),
        )


def peak_memory() -> float:
    """GiB at the most so far: tensors of this rank on its GPU; this process, where there is none."""
    if adapter.current().name == "cuda":
        return torch.cuda.max_memory_allocated() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def padding(rows: Experience, packed: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Padding of a micro-batch, and all that its forward pass computes; packed rows have none."""
    pads = (rows.attention_mask == 0).sum() * (not packed)
    return pads, rows.attention_mask.sum() + pads


def _of_rows(rows: Experience, name: str) -> torch.Tensor | None:
    """(B, 1) of a number that every row carries; None where they do not."""
    if name not in rows.info:
        return None
    values = [float(value) for value in rows.info[name]]
    return torch.tensor(values, device=rows.action_mask.device).unsqueeze(-1)
