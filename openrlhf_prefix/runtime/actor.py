"""The policy's training process: one forward for old log-probs and entropies, and the hybrid loss.

OpenRLHF's training step stays as it is. It hands `actor_loss_fn` the log-probs, advantages and the counts of the whole
optimizer step; PrefixPolicyLoss turns them into the hybrid loss. What the step does not hand over, the prefix lengths,
is set on the loss just before.
"""

from typing import Any, NamedTuple

import ray
import torch
from openrlhf.trainer.ppo_utils.experience import Experience
from openrlhf.trainer.ray.ppo_actor import ActorPPOTrainer, PolicyModelActor

from openrlhf_prefix.algorithm.losses import clipped_tokens, policy_loss_per_token, reduce_loss
from openrlhf_prefix.algorithm.mismatch import mismatch_weights
from openrlhf_prefix.runtime import platform, seams


class ActorForward(NamedTuple):
    log_probs: torch.Tensor  # (B, A)
    entropy: torch.Tensor  # (B, A)


class LossOutput(NamedTuple):
    """The five results that OpenRLHF's training step unpacks."""

    loss: torch.Tensor
    clip_ratio: torch.Tensor
    ppo_kl: torch.Tensor
    vllm_kl: torch.Tensor | None
    is_filter_ratio: torch.Tensor | None


def prefix_mask_of(experience: Experience) -> torch.Tensor:
    """(B, A) bool: the first `prefix_length` action tokens of every row."""
    lengths = torch.as_tensor([int(length) for length in experience.info["prefix_length"]])
    mask = experience.action_mask.bool()
    return mask & (mask.cumsum(-1) <= lengths.to(mask.device).unsqueeze(-1))


class PrefixPolicyLoss(torch.nn.Module):
    """PPO-clip on sampled and selected prefix tokens; see algorithm/losses.py.

    Metrics (clip_ratio, ppo_kl, vllm_kl) are over sampled tokens: the engine never sampled a prefix.
    """

    def __init__(self, args: Any) -> None:
        super().__init__()
        self.hybrid = args.hybrid
        self.actor = args.actor
        self.correction = args.algo.advantage
        self.budget = args.rollout.max_new_tokens
        self.prefix_mask: torch.Tensor | None = None  # (B, A) of the next micro-batch

    def forward(
        self,
        log_probs: torch.Tensor,
        old_log_probs: torch.Tensor,
        advantages: torch.Tensor,
        action_mask: torch.Tensor,
        rollout_log_probs: torch.Tensor | None = None,
        dp_size: int = 1,
        batch_num_tokens: torch.Tensor | float | None = None,
        global_batch_size: torch.Tensor | float | None = None,
    ) -> LossOutput:
        prefix_mask, action = self.prefix_mask, action_mask.bool()
        sampled = action & ~prefix_mask
        low, high = self.actor.eps_clip_low_high
        loss = policy_loss_per_token(
            log_probs, old_log_probs, advantages, prefix_mask, low, high, self.actor.dual_clip, self.hybrid.clip_prefix
        )
        vllm_kl = filtered = None
        if self.correction.is_correction_level != "off":
            weights, outside = self._mismatch(old_log_probs, rollout_log_probs, sampled)
            loss = loss * weights
            filtered = _mean(outside.float(), sampled)
            vllm_kl = _mean(rollout_log_probs - old_log_probs, sampled)
        reduced = reduce_loss(
            loss, action, self.hybrid.divisor, batch_num_tokens, global_batch_size, self.budget, dp_size
        )
        clipped = clipped_tokens(log_probs, old_log_probs, advantages, low, high)
        clip_ratio = _mean(clipped.float(), sampled)
        return LossOutput(reduced, clip_ratio, _mean(old_log_probs - log_probs.detach(), sampled), vllm_kl, filtered)

    def _mismatch(
        self, old_log_probs: torch.Tensor, rollout_log_probs: torch.Tensor, sampled: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        flags = self.correction
        return mismatch_weights(
            old_log_probs,
            rollout_log_probs,
            sampled,
            flags.is_correction_level,
            flags.is_correction_mode,
            flags.is_correction_gating,
            *flags.is_correction_threshold,
        )


def _mean(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean over the mask, 0 where it is empty."""
    return torch.where(mask, values, torch.zeros_like(values)).sum() / mask.sum().clamp(min=1)


class PrefixActorTrainer(ActorPPOTrainer):
    """OpenRLHF's actor trainer with the hybrid loss."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.args.actor.policy_loss_type == "ppo":  # gspo has no prefixed rows (flags.py) and keeps OpenRLHF's loss
            self.actor_loss_fn = PrefixPolicyLoss(self.args)

    def training_step(self, experience: Experience, *args: Any, **kwargs: Any) -> dict[str, Any]:
        self.actor_loss_fn.prefix_mask = prefix_mask_of(experience)
        return super().training_step(experience, *args, **kwargs)


class PrefixPolicy(seams.undecorated(PolicyModelActor)):
    """OpenRLHF's policy actor with our trainer, whose forward also returns entropies."""

    def init_model_from_pretrained(self, *args: Any, **kwargs: Any) -> None:
        platform.current().patch_trainer()
        with seams.replaced("openrlhf.trainer.ray.ppo_actor", "ActorPPOTrainer", PrefixActorTrainer):
            super().init_model_from_pretrained(*args, **kwargs)

    @torch.no_grad()
    def forward(
        self,
        sequences: torch.Tensor,
        action_mask: torch.Tensor,
        attention_mask: torch.Tensor,
        mm_train_inputs_list: list | None = None,
    ) -> ActorForward:
        """Old log-probs and entropies of all action tokens, (B, A) each, from one pass.

        `mm_train_inputs_list` is what upstream sends for images: entries of None, as rollouts are text only.
        """
        device = torch.cuda.current_device()
        self.actor.eval()
        log_probs, output = self.actor(
            sequences.to(device),
            action_mask.to(device),
            attention_mask=attention_mask.to(device),
            return_output=True,
            return_entropy=True,
            ring_attn_group=self.strategy.ring_attn_group,
        )
        self.actor.train()
        entropy = output.entropy[:, -action_mask.shape[1] :]
        return ActorForward(log_probs.cpu(), entropy.float().cpu())


PrefixPolicyActor = ray.remote(num_gpus=1)(PrefixPolicy)
