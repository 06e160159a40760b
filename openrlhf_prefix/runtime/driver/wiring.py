"""Our classes under the names that OpenRLHF's own train() looks up; seams.py lists all of them."""

from collections.abc import Mapping
from functools import partial
from types import SimpleNamespace
from typing import Any

from openrlhf_prefix.runtime import deadlines


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
    from openrlhf_prefix.runtime.engine.rollout import PrefixRolloutActor
    from openrlhf_prefix.runtime.learner.actor import PrefixPolicyActor
    from openrlhf_prefix.runtime.learner.frozen import PrefixReferenceActor, PrefixRewardActor

    train_ppo_ray.PolicyModelActor = PrefixPolicyActor
    train_ppo_ray.ReferenceModelActor, train_ppo_ray.RewardModelActor = PrefixReferenceActor, PrefixRewardActor
    vllm_engine.RolloutRayActor = PrefixRolloutActor
    actor = controller or PrefixTrainer
    # All that train() asks of it; one more argument is seen by no other process, and on no dashboard.
    ppo_trainer.PPOTrainer = SimpleNamespace(remote=partial(actor.remote, secrets=secrets or {}))
    deadlines.install(board)
    return train_ppo_ray.train
