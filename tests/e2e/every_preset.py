"""Three real steps of every preset, one after the other on the same actors and engines (their start takes longest).

    python tests/e2e/every_preset.py FOLDER      one run folder for every preset

Each preset has its own flags, problems and controller; what the actors were started with is set to its flags.
"""

import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ray

from openrlhf_prefix.runtime.context import RunContext
from openrlhf_prefix.runtime.driver import launch, wiring
from openrlhf_prefix.settings.resolve import resolve

ROWS = 32  # of a step and of an optimizer step
FLAGS = {
    "config": "configs/quickstart.yaml",
    "actor.adam.lr": 1e-4,
    "rollout.batch_size": 4,
    "rollout.n_samples_per_prompt": 8,
    "train.batch_size": ROWS,
    "train.micro_batch_size": 16,
    "rollout.micro_batch_size": 16,
    "data.max_samples": 12,
    "eval.steps": -1,
    "eval.dataset": "",
    "ckpt.save_steps": -1,
    "run.rollout_groups": -1,
    "prefix.gradient_every": 1,
}
ALONE = {"rollout.n_samples_per_prompt": 1, "rollout.batch_size": ROWS, "data.max_samples": ROWS}
# Hot, so that a policy that has learnt all of the task by now writes something else than a demonstration, too.
PAIRS = {"rollout.n_samples_per_prompt": 2, "rollout.batch_size": 16, "data.max_samples": 48}
PAIRS |= {"rollout.temperature": 2.0}
FIRST = "opd"  # what the actors are started with: its teacher and its reference model are there for all
TEACHER = {"teacher.model": "FOLDER/teacher"}
SHOWN = {"teacher.template": "{demonstration}\n\n{prompt}"}  # of the letters that the embedded tokenizer knows
PRESETS: dict[str, dict[str, Any]] = {
    "sft_f": {**ALONE, "train.num_episodes": 3},  # first: its reference model is the policy, until it has moved
    # Then those that need groups with wrong rows: what follows trains on.
    "opd": {**TEACHER, "algo.kl.init_coef": 1e-6, "algo.kl.use_loss": "true"},
    "opd_then_rft": {**TEACHER, "teacher.steps": 2},
    "kdrl": TEACHER,
    "hdpo": {**SHOWN, "hybrid.gate": 3},
    "opsd": {**SHOWN, "train.batch_size": 16},
    "irl_reward": {},
    "rft": {},
    "prefix_rft": {},
    "luffy": {},
    "srft": {},
    "uft": {"prefix.total_steps": 3},
    "rft_with_sft_loss": {},
    # 16 groups of two, which all fail: 32 problems wait after two steps
    "relift": {"rollout.n_samples_per_prompt": 2, "rollout.batch_size": 16, "data.max_samples": 48, "hybrid.gate": 1},
    "hpt": {"hybrid.gate": 3},
    "chord_mu": {},
    "chord_phi": {},
    "trust_prefix": {},
    "prefix_context": {"prefix.controller": "adaptive"},
    "on_failure": {"hybrid.preset": "prefix_rft", "prefix.controller": "on_failure", "train.num_episodes": 3}
    | {"data.max_samples": 4},
    "gap": {"hybrid.preset": "chord_mu", "prefix.controller": "gap", "hybrid.imitation_gap": "true"}
    | {"prefix.scores": 1, "prefix.goal": 0.05},
    "ratio": {"hybrid.preset": "prefix_context", "prefix.controller": "ratio", "prefix.tokens": 5},
    "spread": {"hybrid.preset": "prefix_rft", "prefix.controller": "spread", "prefix.prefixed_per_group": 4}
    | {"prefix.low_start": 0.05},
    "pass_rate": {"hybrid.preset": "prefix_rft", "prefix.controller": "pass_rate", "train.num_episodes": 3}
    | {"data.max_samples": 4, "prefix.prefixed_per_group": 4},
    "sft": {**ALONE, "train.num_episodes": 3},
    "dft": {**ALONE, "train.num_episodes": 3},
    "self_sft": {},
    "sft_then_rft": {"hybrid.sft_steps": 2, "hybrid.sft_lr": 5e-4},
    "prefix_after_sft": {"hybrid.sft_steps": 1, "hybrid.sft_imitation": "dft", "hybrid.sft_validate": 1}
    | {"train.num_episodes": 3, "data.max_samples": 4},
    "focal": {"hybrid.plugin": "tests/e2e/focal.py"},
    "masked": {"hybrid.preset": "prefix_rft", "mask.method": "gradient", "mask.share": 0.05},
    "disc_ft": {},
    "disc_ft2": {"train.num_episodes": 3, "data.max_samples": 4},
    # Last: their engines keep older weights.
    "irft": {**PAIRS, "contrast.stages": 2},
    "sspo": PAIRS,
}


def flags(preset: str, folder: Path) -> list[str]:
    settings = {**FLAGS, "hybrid.preset": preset, "run.dir": folder / preset, **PRESETS[preset]}
    named = ((name, str(value).replace("FOLDER", str(folder))) for name, value in settings.items())
    return [text for name, value in named for text in (f"--{name}", value)]


def make_teacher(folder: Path) -> None:
    """The embedded model, twice as sure of everything."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = ".cache/quickstart/model"
    model = AutoModelForCausalLM.from_pretrained(source)
    model.model.norm.weight.data *= 2
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(source).save_pretrained(folder)


def main(folder: Path) -> None:
    make_teacher(folder / "teacher")
    every = {preset: resolve(flags(preset, folder)).args for preset in PRESETS}
    first = every[FIRST]
    problems = {preset: launch.read_problems(args) for preset, args in every.items()}
    for args in every.values():
        Path(args.run.dir).mkdir(parents=True)
    with launch.cluster(first, problems[FIRST], RunContext(time.time())) as board:
        for preset, args in every.items():
            RunContext(time.time(), problems=ray.put(problems[preset]), board=board).attach(args)
        first.run.every = every
        try:
            wiring.wire(controller(), board)(first)
        except ray.exceptions.RayTaskError as error:
            if not isinstance(error.cause, Done):
                raise


class Done(Exception):
    """Ends OpenRLHF's train() before it would export a model."""


def controller() -> Any:
    """The Ray actor class; what it imports needs Ray to be up."""
    from openrlhf_prefix.runtime.controller.trainer import PrefixController

    class One(PrefixController):
        def start_records(self) -> None:
            super().start_records()
            self.teacher.load = lambda strategy: None  # it is loaded

        def close(self) -> None:
            """The engines go on to the next preset."""

    class EveryPreset(PrefixController):
        def __init__(self, pretrain: str, strategy: Any, *groups: Any, **generate: Any) -> None:
            self.every, strategy.args.run.every = strategy.args.run.every, None
            self.made_from = (pretrain, strategy, groups, generate)
            super().__init__(pretrain, strategy, *groups, **generate)
            self.context.attach(self.every[FIRST])

        def fit(self, global_step: int = 0) -> None:
            self.teacher.load(self.strategy)
            pretrain, strategy, groups, generate = self.made_from
            for args in self.every.values():
                strategy.args = args
                retuned = [actor.__ray_call__.remote(retune, args) for actor in self.actor_model_group._actor_handlers]
                ray.get(retuned)
                One(pretrain, strategy, *groups, **generate | {"temperature": args.rollout.temperature}).fit()
            self.close()
            raise Done

    return ray.remote(EveryPreset)


def retune(actor: Any, args: SimpleNamespace) -> None:
    """Runs in the trainer: from now on it has these flags."""
    from openrlhf_prefix.runtime.learner.masking import Mask
    from openrlhf_prefix.runtime.learner.snapshots import Snapshots
    from openrlhf_prefix.settings import plugins

    plugins.load(args.hybrid.plugin)
    if args.contrast.stages:
        actor.snapshots = Snapshots(actor.actor.model.optimizer, args.contrast.snapshots)
    actor.strategy.args = actor.trainer.strategy.args = actor.trainer.args = args
    actor.trainer.mask = Mask(actor.actor.model) if args.mask.method else None


if __name__ == "__main__":
    main(Path(sys.argv[1]))
