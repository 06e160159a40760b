"""Our classes under the names that OpenRLHF's own train() looks up; seams.py lists all of them."""

from typing import Any

from openrlhf_prefix.runtime import deadlines


def wire(controller: Any = None, board: Any = None) -> Any:
    """Puts our classes where OpenRLHF's train() finds them; returns that function.

    Args:
        controller: Ray actor class in place of PrefixTrainer.
        board: of progress.py, where the driver looks for signs of life.
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
    ppo_trainer.PPOTrainer = controller or PrefixTrainer
    deadlines.install(board)
    return train_ppo_ray.train
