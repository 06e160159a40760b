"""Stage 1: does DeepSpeed's fused Adam compile here, and is its step AdamW's?

    m = b1 m + (1 - b1) g        p = p (1 - lr wd) - lr (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)
    v = b2 v + (1 - b2) g^2

On a CPU DeepSpeed's Adam for CPUs is compiled in its place, or PyTorch's own is compared with `--quick`.
"""

from typing import Any

import torch

from gpu.stage import Outcome, Setting, check, timed

RATE, BETAS, EPSILON, DECAY = 1e-2, (0.9, 0.95), 1e-8, 0.1
STEPS, CLOSE = 3, 1e-5  # relative


def run(setting: Setting) -> Outcome:
    torch.manual_seed(0)
    start = torch.randn(2**22 if setting.on_gpu else 2**16)
    gradients = [torch.randn_like(start) for _ in range(STEPS)]
    parameter = torch.nn.Parameter(start.clone().to(setting.device))
    seconds, optimizer = timed(setting, lambda: compiled(setting, [parameter]))
    of_step = 0.0
    for gradient in gradients:
        parameter.grad = gradient.to(setting.device)
        of_step, _ = timed(setting, optimizer.step)
    wanted = by_hand(start.double(), [gradient.double() for gradient in gradients])
    error = float((parameter.detach().cpu().double() - wanted).norm() / wanted.norm())
    name = type(optimizer).__name__
    check(error < CLOSE, f"{name} is {error:.1e} away from AdamW by hand after {STEPS} steps")
    return Outcome(
        f"{name}: made in {seconds:.1f} s, {STEPS} steps are AdamW by hand to {error:.0e}",
        {"seconds_to_make": seconds, "seconds_of_a_step": of_step, "relative_error": error, "parameters": len(start)},
    )


def compiled(setting: Setting, parameters: list[torch.nn.Parameter]) -> Any:
    """The optimizer; DeepSpeed's are compiled when they are made for the first time."""
    options = {"lr": RATE, "betas": BETAS, "eps": EPSILON, "weight_decay": DECAY}
    if setting.on_gpu:
        from deepspeed.ops.adam import FusedAdam

        return FusedAdam(parameters, adam_w_mode=True, **options)
    if setting.quick:
        return torch.optim.AdamW(parameters, **options)
    from deepspeed.ops.adam import DeepSpeedCPUAdam

    return DeepSpeedCPUAdam(parameters, adamw_mode=True, **options)


def by_hand(value: torch.Tensor, gradients: list[torch.Tensor]) -> torch.Tensor:
    """AdamW's definition, in the precision of `value`."""
    first, second = torch.zeros_like(value), torch.zeros_like(value)
    for t, gradient in enumerate(gradients, 1):
        first = BETAS[0] * first + (1 - BETAS[0]) * gradient
        second = BETAS[1] * second + (1 - BETAS[1]) * gradient.square()
        step = (first / (1 - BETAS[0] ** t)) / ((second / (1 - BETAS[1] ** t)).sqrt() + EPSILON)
        value = value * (1 - RATE * DECAY) - RATE * step
    return value
