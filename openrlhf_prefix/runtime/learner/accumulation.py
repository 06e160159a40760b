"""One optimizer step over several micro-batches, on a DeepSpeed engine, whatever its settings.

OpenRLHF leaves the end of a step to DeepSpeed's own count of micro-batches. With dynamic batching that count is fixed
at 1, every micro-batch passes for the last one, and ZeRO-1/2 apply the last one alone (with a CPU offload they drop
the first and add the previous step's gradients). With static batching a cut-short step is never applied and leaks into
the next one. So here every backward is told whether it is the last of its step, no loss is divided by an accumulation
count, and the optimizer steps exactly once. See docs/90-exactness.md for what each of these costs when it is missing.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch


def accumulate(engine: Any, losses: Iterable[Callable[[], torch.Tensor]]) -> None:
    """Adds up the gradients of all micro-batches of a step.

    Args:
        engine: of DeepSpeed, any ZeRO stage, with or without offload.
        losses: one function per micro-batch that runs its forward pass and returns its share of the step's loss.
            ZeRO-3 gathers weights in every pass, so all ranks must bring the same number of them.
    """
    losses = list(losses)
    for number, loss in enumerate(losses, start=1):
        # The hooks of the forward pass look at the boundary too, so it is set first.
        engine.set_gradient_accumulation_boundary(number == len(losses))
        engine.backward(loss(), scale_wrt_gas=False)


def gradient_norm(engine: Any) -> float:
    """L2 norm of the gradient accumulated over all ranks, after the last backward of a step and before its end."""
    optimizer = engine.optimizer
    if hasattr(optimizer, "scaled_global_norm"):  # ZeRO-1/2
        scaled = optimizer.scaled_global_norm()
    else:
        scaled = torch.linalg.vector_norm(torch.stack(optimizer._get_norm_groups()))
    return float(scaled) / float(optimizer.loss_scale)


def finite_gradient(engine: Any) -> bool:
    """Whether the accumulated gradient is finite on all ranks, where DeepSpeed would apply it all the same.

    Called like gradient_norm(). ZeRO-1/2 look by themselves and skip the step. ZeRO-3 does not; its norms say -1
    where a gradient is NaN or infinite.
    """
    optimizer = engine.optimizer
    if hasattr(optimizer, "scaled_global_norm"):
        return True
    return bool((torch.stack(optimizer._get_norm_groups()) >= 0).all())


def discard(engine: Any) -> None:
    """Ends a step without applying it: the way out that DeepSpeed takes after an overflow.

    Neither weights, optimizer states nor the learning rate move, and no gradient is left over.
    """
    optimizer, counted = engine.optimizer, engine.global_steps
    checked = getattr(optimizer, "check_grad_overflow", None)
    optimizer.overflow, optimizer.check_grad_overflow = True, False
    engine.step()
    optimizer.overflow, optimizer.check_grad_overflow = False, checked
    if engine.was_step_applied():
        raise RuntimeError("DeepSpeed applied a step that was to be discarded: set --prefix.gradient_every 0")
    engine.global_steps = counted
    engine.skipped_steps -= 1
