"""Every rank makes as many forward passes as the others: under ZeRO-3 one more would wait for them for ever."""

import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("openrlhf")

import torch
from policy_ranks import LENGTH, make_frozen, make_policy, make_source, run_ranks
from ranks_as_ray import Ranks, made_over_ranks

GROUP = 2
SECONDS = 500.0  # a hang fails here


def rollout(number: int, vocabulary: int) -> Any:
    """A row of its own length, as the generator makes it."""
    from openrlhf.trainer.ppo_utils.experience import Experience

    length = LENGTH - number % 4
    tokens = torch.randint(0, vocabulary, (1, length), generator=torch.Generator().manual_seed(number))
    return Experience(
        sequences=tokens,
        attention_mask=torch.ones_like(tokens),
        action_mask=torch.arange(1, length).unsqueeze(0) >= 4,
        rewards=torch.tensor([float(number % 2)]),
        prompts=[f"problem {number // GROUP}"],
        response_length=torch.tensor([length - 4]),
        total_length=torch.tensor([float(length)]),
        truncated=torch.tensor([False]),
        info={
            "reward": torch.tensor([float(number % 2)]),
            "prefix_length": torch.tensor([0]),
            "prefix_ratio": torch.tensor([0.0]),
            "reward_failed": torch.tensor([False]),
        },
    )


def batches_of(folder: Path, cases: list[tuple[int, dict[str, Any]]]) -> None:
    """Of every case (rows, flags): the passes of actor and reference, what the controller deals out, its metrics."""
    from openrlhf_prefix.algorithm.controllers import CONTROLLERS, Settings
    from openrlhf_prefix.algorithm.schedules import PrefixSchedule
    from openrlhf_prefix.runtime.controller.teacher import Teacher

    flags = {"ds.zero_stage": 3, "algo.kl.init_coef": 0.01, "prefix.prefixed_per_group": 0}
    flags["ref.num_gpus_per_node"] = int(os.environ["WORLD_SIZE"])
    policy = make_policy(folder / "source", folder / "run", **flags)
    args, frozen = policy.strategy.args, make_frozen(policy.strategy, folder / "source")
    vocabulary, found = policy.actor.model.module.config.vocab_size, []
    sampler = SimpleNamespace(controller=CONTROLLERS["schedule"](Settings(PrefixSchedule())), trust=None)
    for rows, changed in cases:
        for name, value in changed.items():
            group, leaf = name.split(".")
            setattr(getattr(args, group), leaf, value)
        actors, references = Ranks(policy), Ranks(frozen)
        teacher = Teacher(args, 10, [], [], None)
        with made_over_ranks(policy.strategy, actors, references, 0.01, sampler, teacher) as maker:
            batch = maker.make([rollout(number, vocabulary) for number in range(rows)], step=0)
        trained = [row for row in batch.rows if row.action_mask.any()]
        kept = {row.index[0]: row.action_log_probs[row.action_mask.bool()] for row in trained}
        found.append((actors.passes, references.passes, len(batch.rows), kept, batch.metrics))
    torch.save(found, folder / f"found_{torch.distributed.get_world_size()}_{torch.distributed.get_rank()}.pt")


STATIC = {"rollout.micro_batch_size": 4, "train.dynamic_batch_enable": False}
DYNAMIC = {"train.dynamic_batch_enable": True, "rollout.max_tokens_per_gpu": 40}
# On 2 ranks 20 rows are 5 passes, 3 and 2; 6 rows are 2 passes, 1 and 1; 2 rows are fewer passes than ranks.
CASES = [(rows, flags) for flags in (STATIC, DYNAMIC) for rows in (20, 6, 2)]


def test_passes_are_filled_up_and_nothing_of_that_is_left(tmp_path: Path) -> None:
    """One rank alone makes every pass there is: the same rows, log-probs and metrics come out of more ranks."""
    ranks = 2
    make_source(tmp_path / "source", tied=True)
    for count in (1, ranks):
        run_ranks(count, batches_of, tmp_path, CASES, seconds=SECONDS)
    alone = torch.load(tmp_path / "found_1_0.pt", weights_only=False)
    every = [torch.load(tmp_path / f"found_{ranks}_{rank}.pt", weights_only=False) for rank in range(ranks)]
    for case, (number, wanted) in zip(CASES, enumerate(alone), strict=True):
        rows = case[0]
        for passes, of_reference, dealt, kept, metrics in (found[number] for found in every):
            assert passes == of_reference == passes[:1] * ranks, case
            assert dealt == rows + -rows % ranks and kept.keys() == wanted[3].keys() == set(range(rows)), case
            for place in range(rows):
                torch.testing.assert_close(kept[place], wanted[3][place], rtol=0, atol=0.02)  # another padding, bf16
            assert metrics == pytest.approx(wanted[4], abs=0.02), case


def test_a_hang_of_the_ranks_fails_quickly() -> None:
    with pytest.raises(AssertionError, match="2 ranks hang"):
        run_ranks(2, _one_more, seconds=8.0)


def _one_more() -> None:
    torch.distributed.init_process_group("gloo")
    torch.distributed.barrier()
    if torch.distributed.get_rank():
        torch.distributed.barrier()
    else:
        time.sleep(SECONDS)  # busy with something else, and alive
