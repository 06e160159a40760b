"""The schedule of the learning rate, at its end and behind it."""

import pytest
import torch

pytest.importorskip("openrlhf")
pytest.importorskip("vllm")

from transformers import get_scheduler

from openrlhf_prefix.runtime.platform import adapter

adapter.choose().install()

from openrlhf_prefix.runtime.learner.actor_trainer import hold_at_end, scale_learning_rate  # noqa: E402


def made(name: str) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LambdaLR]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    extra = {"scheduler_specific_kwargs": {"min_lr": 0.1}} if name == "cosine_with_min_lr" else {}
    return optimizer, get_scheduler(name, optimizer, num_warmup_steps=0, num_training_steps=8, **extra)


def rates(optimizer: torch.optim.Optimizer, scheduler: torch.optim.lr_scheduler.LambdaLR, steps: int) -> list[float]:
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


@pytest.mark.parametrize(("name", "end"), [("cosine_with_min_lr", 0.1), ("cosine", 0.0), ("linear", 0.0)])
def test_it_stays_where_it_ends(name: str, end: float) -> None:
    """8 steps, run to 200 %. A cosine left to itself is back at 1.0 there."""
    plain, held = made(name), made(name)
    hold_at_end(held[1], 8)
    expected, found = rates(*plain, 17), rates(*held, 17)
    assert found[:9] == expected[:9] and found[8:] == pytest.approx([end] * 9)
    if name == "cosine_with_min_lr":
        assert expected[16] == pytest.approx(1.0)


def test_a_resume_behind_the_end_and_another_rate_keep_it_there() -> None:
    first, second = made("cosine_with_min_lr"), made("cosine_with_min_lr")
    for _, scheduler in (first, second):
        hold_at_end(scheduler, 8)
    rates(*first, 12)
    second[1].load_state_dict(first[1].state_dict())
    scale_learning_rate(second[1], 0.5)
    assert rates(*second, 2) == pytest.approx([0.05, 0.05])
