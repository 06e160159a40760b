"""A mask on real DeepSpeed engines: what is outside stays to the bit, and the choice does not depend on the layout."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("openrlhf")

import numpy as np
import torch
from policy_ranks import completed, make_policy, make_source, run_ranks, train

from openrlhf_prefix.data.problems import Problem
from openrlhf_prefix.runtime.controller.demonstrations import Demonstrations

# ZeRO stage, offload, rows of a micro-batch
LAYOUTS = [(1, False, 2), (1, True, 1), (2, False, 2), (2, True, 2), (3, False, 1), (3, True, 2)]
EXAMPLES, SHARE, DECAY, MAX_NORM, BETA = 5, 0.03, 0.1, 1e-3, 0.9
METHOD = "fisher"  # of the whole runs: the one that sees every example by itself
ALL_RANKS = pytest.mark.parametrize("ranks", (1, 2))
NAMES = [f"zero{stage}{'-offload' * offload}" for stage, offload, _ in LAYOUTS]
ALL_LAYOUTS = pytest.mark.parametrize("layout", LAYOUTS, ids=NAMES)


def examples(vocabulary: int) -> list[Any]:
    """Rows of demonstrations of unequal lengths."""
    draws = np.random.default_rng(3)
    ids = [draws.integers(6, vocabulary, size) for size in (4, 9, 6, 12, 5, 7, 4, 10, 6, 8)]
    pairs = list(zip(ids[::2], ids[1::2], strict=True))
    problems = [Problem(f"p{n}", "p", "1", prompt, (shown,), (0,)) for n, (prompt, shown) in enumerate(pairs)]
    return Demonstrations(problems, seed=1, end=5).batch(0, EXAMPLES)


def flags_of(method: str | None, layout: tuple[int, bool, int]) -> dict[str, Any]:
    stage, offload, micro = layout
    flags = {"ds.zero_stage": stage, "ds.adam_offload": offload, "train.micro_batch_size": micro}
    flags |= {"actor.adam.weight_decay": DECAY, "actor.max_norm": MAX_NORM}
    flags |= {"mask.method": method, "mask.share": SHARE} if method else {}
    return flags | ({"mask.file": "random/rows"} if method == "retain_freeze" else {})


def made(source: Path, run: Path, method: str | None, layout: tuple[int, bool, int]) -> Any:
    """A policy whose mask is made, where there is one."""
    policy = make_policy(source, run, **flags_of(method, layout))
    if method:
        policy.make_mask(examples(policy.actor.model.module.config.vocab_size))
    return policy


def whole(policy: Any, pieces: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    """By parameter, what every rank has of it in these flat pieces."""
    shapes = {
        name: getattr(weight, "ds_shape", weight.shape)
        for name, weight in policy.actor.model.module.named_parameters()
    }
    flat = torch.zeros(sum(shape.numel() for shape in shapes.values()))
    for part in policy.trainer.mask.fragments:
        flat[part.first : part.first + part.length] += part.of(pieces[part.piece]).float()
    torch.distributed.all_reduce(flat)
    parts = flat.split([shape.numel() for shape in shapes.values()])
    return {name: part.view(shape).clone() for (name, shape), part in zip(shapes.items(), parts, strict=True)}


def mask_of(policy: Any) -> dict[str, torch.Tensor]:
    return {name: mask == 1 for name, mask in whole(policy, policy.trainer.mask.pieces).items()}


def moments_of(policy: Any) -> dict[str, torch.Tensor]:
    """Adam's first."""
    optimizer = policy.actor.model.optimizer
    return whole(policy, [optimizer.optimizer.state[piece]["exp_avg"] for piece in policy.trainer.mask._held()])


def weights_of(policy: Any) -> dict[str, torch.Tensor]:
    """In fp32."""
    from deepspeed.utils import safe_get_full_fp32_param

    return {
        name: safe_get_full_fp32_param(weight).clone() for name, weight in policy.actor.model.module.named_parameters()
    }


def train_masked(folder: Path, ranks: int) -> None:
    """In every layout two steps, a checkpoint, and a third step by the run and by one that resumes."""
    found = {}
    for layout in LAYOUTS:
        run = folder / f"{ranks}_{'_'.join(map(str, layout))}"
        policy = made(folder / "source", run, METHOD, layout)
        mask, start = mask_of(policy), weights_of(policy)
        train(policy, seed=1)
        moments = moments_of(policy)
        status = train(policy, seed=2)
        policy.save_checkpoint("global_step2", {"global_step": 2})
        completed(policy)
        train(policy, seed=3)
        end = weights_of(policy)
        policy.actor.model.destroy()
        again = make_policy(folder / "source", run, "global_step2", **flags_of(METHOD, layout))
        restored = mask_of(again)
        train(again, seed=3)
        found[layout] = {"mask": mask, "start": start, "moments": moments, "end": end, "share": status["mask/share"]}
        found[layout] |= {"restored": restored, "resumed": weights_of(again)}
        again.actor.model.destroy()
    if torch.distributed.get_rank() == 0:
        torch.save(found, folder / f"{ranks}.pt")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_source(tmp_path_factory.mktemp("mask") / "source", tied=False)


@pytest.fixture(scope="module")
def runs(source: Path) -> Callable[[int], dict]:
    """What train_masked() found on so many ranks."""

    @cache
    def of(ranks: int) -> dict:
        run_ranks(ranks, train_masked, source.parent, ranks)
        return torch.load(source.parent / f"{ranks}.pt")

    return of


def scored(name: str) -> bool:
    return "_proj.weight" in name


@ALL_RANKS
@ALL_LAYOUTS
def test_outside_nothing_moves_by_a_bit_and_inside_all_do(runs, ranks: int, layout: tuple) -> None:
    """With weight decay and clipping: the norm that clips is that of the masked gradient, so that the first moment
    after one step, (1 - beta) times what came through, is as long as it may be."""
    run = runs(ranks)[layout]
    for name, mask in run["mask"].items():
        assert scored(name) or not mask.any()
        before, after = run["start"][name].view(torch.int32), run["end"][name].view(torch.int32)
        assert torch.equal(before[~mask], after[~mask]), name
        assert (before[mask] != after[mask]).float().mean() > 0.99 or not mask.any(), name
        assert not run["moments"][name][~mask].any()
    norm = sum(float(moment.double().square().sum()) for moment in run["moments"].values()) ** 0.5
    assert norm == pytest.approx((1 - BETA) * MAX_NORM, rel=0.01)


@ALL_RANKS
@ALL_LAYOUTS
def test_the_mask_is_one_whatever_the_layout(runs, ranks: int, layout: tuple) -> None:
    run, first = runs(ranks)[layout], runs(1)[LAYOUTS[0]]
    assert all(torch.equal(mask, first["mask"][name]) for name, mask in run["mask"].items())
    total = sum(mask.numel() for name, mask in run["mask"].items() if scored(name))
    chosen = sum(int(mask.sum()) for mask in run["mask"].values())
    assert chosen == round(SHARE * total)
    assert run["share"] == pytest.approx(chosen / sum(mask.numel() for mask in run["mask"].values()))


@ALL_RANKS
@ALL_LAYOUTS
def test_a_resume_has_the_mask_of_the_run_and_goes_on_as_it_did(runs, ranks: int, layout: tuple) -> None:
    run = runs(ranks)[layout]
    assert all(torch.equal(mask, run["restored"][name]) for name, mask in run["mask"].items())
    assert all(torch.equal(weight, run["resumed"][name]) for name, weight in run["end"].items())


def of_transformers(source: Path) -> tuple[dict[str, torch.Tensor], list[dict[str, torch.Tensor]]]:
    """Weights, and the gradients of the examples' losses, by transformers in fp32."""
    from transformers import AutoModelForCausalLM

    model, found = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32), []
    for row in examples(model.config.vocab_size):
        labels = row.sequences.clone()
        labels[:, 1:][~row.action_mask] = -100
        labels[:, 0] = -100
        model.zero_grad()
        model(row.sequences, labels=labels).loss.backward()
        found.append({name: weight.grad.clone() for name, weight in model.named_parameters() if scored(name)})
    return {name: weight.detach() for name, weight in model.named_parameters() if scored(name)}, found


def by_definition(method: str, w: torch.Tensor, each: list[torch.Tensor]) -> torch.Tensor:
    g = torch.stack(each).mean(0)
    return {
        "magnitude": w.abs(),
        "gradient": g.abs(),
        "snip": (w * g).abs(),
        "force": -w * g,
        "taylor": (w * g) ** 2,
        "fisher": torch.stack(each).square().mean(0),
        "retain_freeze": g.abs(),
    }[method]


METHODS = ("magnitude", "gradient", "snip", "force", "taylor", "fisher", "retain_freeze")


def make_each(folder: Path) -> None:
    """Masks of all methods, and two steps of a run without one and of one whose mask is everything."""
    found = {}
    for method in METHODS:
        policy = made(folder / "source", folder / method, method, LAYOUTS[0])
        found[method] = mask_of(policy)
        policy.actor.model.destroy()
    for layout in LAYOUTS:
        ends = []
        for method in (None, "magnitude"):
            policy = made(folder / "source", folder / f"all_{method}", method, layout)
            for piece in policy.trainer.mask.pieces if policy.trainer.mask else ():
                piece.fill_(True)
            train(policy, seed=1)
            train(policy, seed=2)
            ends.append(weights_of(policy))
            policy.actor.model.destroy()
        found[layout] = ends
    torch.save(found, folder / "each.pt")


@pytest.fixture(scope="module")
def each(source: Path) -> dict:
    run_ranks(1, make_each, source.parent)
    return torch.load(source.parent / "each.pt")


@pytest.mark.parametrize("method", METHODS)
def test_the_weights_are_those_of_the_definition(each, source: Path, method: str) -> None:
    """By gradients in fp32, where the trainer's are rounded to bf16, so that a few near the threshold may differ."""
    weights, gradients = of_transformers(source)
    names = list(weights)
    scores = [by_definition(method, weights[name], [one[name] for one in gradients]).flatten() for name in names]
    count = round(SHARE * sum(map(len, scores)))
    wanted = torch.zeros(sum(map(len, scores)), dtype=torch.bool)
    wanted[torch.cat(scores).argsort(descending=True, stable=True)[:count]] = True
    found = torch.cat([each[method][name].flatten() for name in names])
    found = ~found if method == "retain_freeze" else found
    assert int(found.sum()) == count
    assert int((found & wanted).sum()) >= (1 if method == "magnitude" else 0.95) * count


def test_retain_freeze_is_the_complement_of_the_gradients_mask(each) -> None:
    """And what has no score trains."""
    for name, frozen in each["gradient"].items():
        assert torch.equal(each["retain_freeze"][name], ~frozen), name


@ALL_LAYOUTS
def test_a_mask_of_all_weights_changes_nothing(each, layout: tuple) -> None:
    """Its weight decay is Adam's own, to the bit."""
    plain, masked = each[layout]
    assert all(torch.equal(weight, masked[name]) for name, weight in plain.items())
