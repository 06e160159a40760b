"""Our classes under the names that OpenRLHF's own train() looks up; seams.py lists all of them."""

from collections.abc import Mapping
from functools import partial
from types import SimpleNamespace
from typing import Any

from openrlhf_prefix.runtime import deadlines
from openrlhf_prefix.settings.derived import has_reference


def wire(controller: Any = None, board: Any = None, secrets: Mapping[str, str] | None = None) -> Any:
    """Puts our classes where OpenRLHF's train() finds them; returns that function.

    Args:
        controller: Ray actor class in place of PrefixTrainer.
        board: of progress.py, where the driver looks for signs of life.
        secrets: of settings/secrets.py, for the controller alone.
    """
    from openrlhf.cli import train_ppo_ray
    from openrlhf.trainer import ppo_trainer
    from openrlhf.trainer.ray import vllm_engine

    from openrlhf_prefix.runtime.controller.trainer import PrefixTrainer
    from openrlhf_prefix.runtime.driver.teacher import PlacedGroup, teacher_group
    from openrlhf_prefix.runtime.engine.rollout import PrefixRolloutActor
    from openrlhf_prefix.runtime.learner.actor import PrefixPolicyActor
    from openrlhf_prefix.runtime.learner.frozen import PrefixReferenceActor, PrefixRewardActor

    train_ppo_ray.PolicyModelActor = PrefixPolicyActor
    train_ppo_ray.ReferenceModelActor, train_ppo_ray.RewardModelActor = PrefixReferenceActor, PrefixRewardActor
    train_ppo_ray.RayActorGroup = PlacedGroup
    vllm_engine.RolloutRayActor = PrefixRolloutActor
    start = partial((controller or PrefixTrainer).remote, secrets=secrets or {})
    deadlines.install(board)

    def train(args: SimpleNamespace) -> None:
        coef = args.algo.kl.init_coef

        def remote(pretrain: str, strategy: Any, actor: Any, *groups: Any, **kwargs: Any) -> Any:
            args.algo.kl.init_coef = coef
            return start(pretrain, strategy, actor, *groups, teacher_group(args, actor), **kwargs)

        # All that train() asks of it; one more argument is seen by no other process, and on no dashboard.
        ppo_trainer.PPOTrainer = SimpleNamespace(remote=remote)
        # Before it starts the controller, train() looks at this for one thing: whether to make a reference model.
        args.algo.kl.init_coef = coef or float(has_reference(args))
        train_ppo_ray.train(args)

    return train
