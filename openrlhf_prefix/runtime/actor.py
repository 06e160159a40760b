"""The policy's training process: OpenRLHF's actor with our trainer, and one forward for log-probs and entropies."""

from typing import Any, NamedTuple

import ray
import torch
from openrlhf.trainer.ray.ppo_actor import PolicyModelActor

from openrlhf_prefix.runtime import deadlines, platform, seams
from openrlhf_prefix.runtime.actor_trainer import PrefixActorTrainer
from openrlhf_prefix.runtime.probe import accumulation_coefficients
from openrlhf_prefix.runtime.weight_check import flip_lowest_bits, trainer_fingerprints


class ActorForward(NamedTuple):
    log_probs: torch.Tensor  # (B, A)
    entropy: torch.Tensor  # (B, A)


class PrefixPolicy(seams.undecorated(PolicyModelActor)):
    """OpenRLHF's policy actor with our trainer, whose forward also returns entropies."""

    def init_model_from_pretrained(self, *args: Any, **kwargs: Any) -> None:
        platform.current().patch_trainer()
        deadlines.install()
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

    def prepare(self, imitation_coef: float, measure_prefix: bool) -> None:
        """What depends on the global step in the training on the next rollout batch."""
        self.trainer.imitation_coef, self.trainer.measure_prefix = imitation_coef, measure_prefix

    def weight_fingerprints(self) -> dict[str, int]:
        """See weight_check.py; every rank has to be asked."""
        return trainer_fingerprints(self.actor.model.module)

    def flip_lowest_bits(self) -> None:
        """See weight_check.py."""
        flip_lowest_bits(self.actor.model.module)

    def device(self) -> str:
        """Name of what this rank computes on."""
        return torch.cuda.get_device_name() if torch.cuda.is_available() else "a CPU"

    def attention_kernels(self) -> list[str] | None:
        """Names of the GPU kernels of one forward pass; None without CUDA."""
        if not torch.cuda.is_available():
            return None
        tokens = torch.arange(1, 65).unsqueeze(0)
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
            self.forward(tokens, torch.ones(1, 63, dtype=torch.bool), torch.ones_like(tokens))
        return [event.key for event in profile.key_averages()]

    def accumulation_coefficients(self) -> list[list[float]]:
        """See probe.py; every rank has to be asked."""
        return accumulation_coefficients(self.strategy)


PrefixPolicyActor = ray.remote(num_gpus=1)(PrefixPolicy)
