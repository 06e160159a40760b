"""The moving average of the weights, against one computed by hand from the weights after every step."""

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("openrlhf")

import torch
from policy_ranks import completed, make_policy, make_source, run_ranks, train
from safetensors.torch import load_file

from openrlhf_prefix.runtime.learner import export_command, lora
from openrlhf_prefix.runtime.platform import adapter

# ranks, ZeRO stage, rank of LoRA, elements below which ZeRO-3 leaves a tensor whole on every rank
LAYOUTS = [(ranks, stage, 0, 0) for ranks in (1, 2) for stage in (2, 3)]
LAYOUTS += [(1, 2, 4, 0), (2, 3, 4, 0), (2, 3, 0, 100_000)]
ALL_LAYOUTS = pytest.mark.parametrize(
    ("runs", "layout"),
    [(layout[0], layout) for layout in LAYOUTS],
    indirect=["runs"],
    ids=["-".join(map(str, layout)) for layout in LAYOUTS],
)
ALPHA = 8
CONTROLLER = {"global_step": 2}


def run_of(folder: Path, layout: tuple[int, ...]) -> Path:
    return folder / "_".join(map(str, layout))


def weights(policy: Any) -> dict[str, torch.Tensor]:
    """Every weight, whole: those in training in fp32."""
    import deepspeed
    from deepspeed.utils import safe_get_full_fp32_param

    found = {}
    for name, parameter in policy.actor.model.module.named_parameters():
        if parameter.requires_grad:
            found[name] = safe_get_full_fp32_param(parameter).clone()
        else:
            with deepspeed.zero.GatheredParameters([parameter]):
                found[name] = parameter.detach().clone()
    return found


def train_with_an_average(folder: Path, ranks: int) -> None:
    """Three steps that are applied and one that is not, a checkpoint and a resume before the last, then an export."""
    config = adapter.cpu_config
    for layout in (layout for layout in LAYOUTS if layout[0] == ranks):
        _, stage, rank, whole = layout
        adapter.cpu_config = lambda upstream, whole=whole: leaving_whole(config(upstream), whole)
        flags = {"ds.zero_stage": stage, "train.enable_ema": True, "train.ema_beta": 0.5}
        flags |= {"ds.lora.rank": rank, "ds.lora.alpha": ALPHA}
        run = run_of(folder, layout)
        policy = make_policy(folder / "source", run, **flags)
        trained = [weights(policy)]
        for seed, advantages in ((1, 1.0), (2, float("nan")), (3, 1.0)):
            assert train(policy, seed, advantages)["skipped_steps"] == float(advantages != advantages)
            trained += [weights(policy)] if advantages == advantages else []
        policy.save_checkpoint("global_step2", CONTROLLER)
        completed(policy)
        policy.actor.model.destroy()
        policy = make_policy(folder / "source", run, "global_step2", **flags)
        train(policy, seed=4)
        trained.append(weights(policy))
        policy.save_checkpoint("global_step3", CONTROLLER)
        completed(policy)
        before = policy.weight_fingerprints()
        policy.save_model()
        after = weights(policy)
        assert policy.weight_fingerprints() == before  # training goes on with its own weights
        assert all(torch.equal(after[name], value) for name, value in trained[-1].items())
        policy.actor.model.destroy()
        if torch.distributed.get_rank() == 0:
            torch.save(trained, run / "trained.pt")


def leaving_whole(config: Any, elements: int) -> Any:
    def config_of(*args: Any, **kwargs: Any) -> dict[str, Any]:
        made = config(*args, **kwargs)
        made["zero_optimization"]["stage3_param_persistence_threshold"] = elements
        return made

    return config_of


@pytest.fixture(scope="module")
def made() -> dict[int, Path]:
    """Folders of runs by their number of ranks."""
    return {}


@pytest.fixture
def runs(made: dict[int, Path], tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """Of so many ranks, trained when the first test asks for them."""
    ranks = request.param
    if ranks not in made:
        made[ranks] = tmp_path_factory.mktemp("average")
        make_source(made[ranks] / "source", tied=False)
        run_ranks(ranks, train_with_an_average, made[ranks], ranks)
    return made[ranks]


@ALL_LAYOUTS
def test_the_export_is_the_average_over_the_applied_steps(runs: Path, layout: tuple[int, ...]) -> None:
    """With beta 1/2: W0/8 + W1/8 + W2/4 + W3/2, rounded once to bf16, whose spacing is 2^-7 of a value at most."""
    trained = torch.load(run_of(runs, layout) / "trained.pt")
    shares = (1 / 8, 1 / 8, 1 / 4, 1 / 2)
    average = {
        name: sum(share * each[name].double() for share, each in zip(shares, trained, strict=True)).float()
        for name in trained[0]
    }
    found = load_file(run_of(runs, layout) / "export" / "model.safetensors")
    wanted, last = (as_exported(state, layout) for state in (average, trained[-1]))
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(found[name].float(), value.float(), rtol=2**-7, atol=1e-6, msg=name)
    moved = [name for name in wanted if (found[name].float() - last[name].float()).abs().max() > 1e-3]
    assert len(moved) > len(wanted) / 2  # it is not what the last step left


def as_exported(state: dict[str, torch.Tensor], layout: tuple[int, ...]) -> dict[str, torch.Tensor]:
    """Merged where it has adapters; below ZeRO-3 the model has those in bf16, too."""
    _, stage, rank, _ = layout
    if not rank:
        return state
    if stage < 3:
        state = {name: tensor.bfloat16() if lora.is_adapter(name) else tensor for name, tensor in state.items()}
    return lora.merge(state, ALPHA / rank)


@ALL_LAYOUTS
def test_the_export_of_a_checkpoint_is_that_of_the_run(runs: Path, tmp_path: Path, layout: tuple[int, ...]) -> None:
    run = run_of(runs, layout)
    export_command.main([str(run), str(tmp_path / "out")])
    ours, theirs = (
        {path.name: path.read_bytes() for path in folder.iterdir()} for folder in (tmp_path / "out", run / "export")
    )
    assert ours.pop("README.md") and ours == theirs  # the run's card is written by its driver
