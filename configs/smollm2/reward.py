"""reasoning-gym's own verifier, as the file that --reward.remote_url names."""

from openrlhf_prefix.reward.gym import reward_func

__all__ = ["reward_func"]
