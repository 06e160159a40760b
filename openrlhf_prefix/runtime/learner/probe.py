"""Which micro-batches of a step does this engine really apply? Read off the weights themselves.

The model is a table of zeros; micro-batch i of a step adds up row i. One optimizer step of plain descent with rate 1
then leaves minus the coefficient of micro-batch i in row i: 1 if it counted once, 0 if it was lost, 2 if it came
again.
"""

from typing import Any

import torch

from openrlhf_prefix.runtime.learner import accumulation

MICRO_BATCHES = 3
STEPS = 2
WIDTH = 64


class Table(torch.nn.Module):
    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.rows = torch.nn.Embedding(STEPS * MICRO_BATCHES, WIDTH, dtype=dtype)
        torch.nn.init.zeros_(self.rows.weight)

    def forward(self, row: torch.Tensor) -> torch.Tensor:
        return self.rows(row).float().sum()


def accumulation_coefficients(strategy: Any) -> list[list[float]]:
    """STEPS lists of the coefficients of all STEPS * MICRO_BATCHES micro-batches; all ranks have to call this.

    Args:
        strategy: OpenRLHF's, with the ZeRO stage, offload, precision and batching under test.

    Right is [1, 1, 1, 0, 0, 0] after the first step, [0, 0, 0, 1, 1, 1] in the second.
    """
    import deepspeed

    config = strategy.get_ds_train_config({"type": "SGD", "params": {"lr": 1.0}}, max_norm=0.0)
    config |= {"zero_allow_untested_optimizer": True, "zero_force_ds_cpu_optimizer": False}
    dtype = torch.bfloat16 if config["bf16"]["enabled"] else torch.float16
    model = Table(dtype).to(torch.cuda.current_device())
    engine, *_ = deepspeed.initialize(model=model, model_parameters=model.parameters(), config=config)
    weight, before, found = model.rows.weight, torch.zeros(STEPS * MICRO_BATCHES), []
    for step in range(STEPS):
        rows = range(step * MICRO_BATCHES, (step + 1) * MICRO_BATCHES)
        places = [torch.tensor([row], device=torch.cuda.current_device()) for row in rows]
        accumulation.accumulate(engine, [lambda place=place: engine(place) for place in places])
        engine.step()
        with deepspeed.zero.GatheredParameters([weight], enabled=strategy.args.ds.zero_stage == 3):
            after = -weight.detach().float().mean(-1).cpu()
        found.append((after - before).tolist())
        before = after
    engine.destroy()
    return found


def wrong_coefficients(found: list[list[float]]) -> str | None:
    """What is wrong with the coefficients, or None."""
    for step, coefficients in enumerate(found):
        for row, value in enumerate(coefficients):
            own = row // MICRO_BATCHES == step
            if abs(value - own) > 1e-3:
                whose = f"micro-batch {row % MICRO_BATCHES + 1} of step {row // MICRO_BATCHES + 1}"
                return f"{whose} counts {value:g} times in step {step + 1} instead of {int(own)}"
    return None
