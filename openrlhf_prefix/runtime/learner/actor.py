"""The policy's training process: OpenRLHF's actor with our trainer, and one forward for log-probs and entropies."""

import contextlib
from functools import partial
from pathlib import Path
from typing import Any

import ray
import torch
import torch.distributed as dist
from openrlhf.trainer.ppo_utils.experience import Experience, split_experience_batch
from openrlhf.trainer.ray.ppo_actor import PolicyModelActor

from openrlhf_prefix.checkpoint.store import Store
from openrlhf_prefix.runtime import context, deadlines, seams
from openrlhf_prefix.runtime.learner import checkpoints, export, lora
from openrlhf_prefix.runtime.learner.actor_trainer import PrefixActorTrainer, hold_at_end
from openrlhf_prefix.runtime.learner.average import PART, Average
from openrlhf_prefix.runtime.learner.background import Background, Saved
from openrlhf_prefix.runtime.learner.fp32 import InFp32
from openrlhf_prefix.runtime.learner.hidden import Judged, judge
from openrlhf_prefix.runtime.learner.masking import PART as MASK
from openrlhf_prefix.runtime.learner.masking import Mask
from openrlhf_prefix.runtime.learner.probe import accumulation_coefficients
from openrlhf_prefix.runtime.learner.snapshots import PART as SNAPSHOTS
from openrlhf_prefix.runtime.learner.snapshots import Snapshots
from openrlhf_prefix.runtime.learner.states import Generators
from openrlhf_prefix.runtime.platform import adapter
from openrlhf_prefix.runtime.rows.fields import ActorForward
from openrlhf_prefix.runtime.weights.check import flip_lowest_bits, trainer_fingerprints
from openrlhf_prefix.settings.derived import mask_share


class PrefixPolicy(seams.undecorated(PolicyModelActor)):
    """OpenRLHF's policy actor with our trainer, whose forward also returns entropies."""

    def init_model_from_pretrained(
        self, strategy: Any, pretrain: str, max_steps: int, *args: Any, **kwargs: Any
    ) -> None:
        adapter.current().patch_trainer()
        deadlines.install()
        chosen = context.of(strategy.args).checkpoint
        if chosen:
            checkpoints.confirm(checkpoints.folder_of(strategy.args) / chosen)
            # Upstream would take what `latest` names, and DeepSpeed would run whatever the files name.
            strategy.load_ckpt = checkpoints.loader(strategy.load_ckpt, checkpoints.folder_of(strategy.args) / chosen)
        flags = strategy.args.train
        averaged, flags.enable_ema = flags.enable_ema, False  # upstream would hold a second engine for it
        with seams.replaced("openrlhf.trainer.ray.ppo_actor", "ActorPPOTrainer", PrefixActorTrainer):
            super().init_model_from_pretrained(strategy, pretrain, max_steps, *args, **kwargs)
        flags.enable_ema = averaged
        hold_at_end(self.actor_scheduler, max_steps)
        self.background = Background(strategy.args.run.background_save)
        # By name: further state of this rank joins here, and is saved and restored with the checkpoint.
        self.parts = {"generators": Generators(), "trainer": self.trainer}
        if averaged:
            self.trainer.average = self.parts[PART] = Average(self.actor.model.optimizer, flags.ema_beta)
        if strategy.args.mask.method is not None:
            self.trainer.mask = self.parts[MASK] = Mask(self.actor.model)
        if strategy.args.contrast.stages:
            kept = Snapshots(self.actor.model.optimizer, strategy.args.contrast.snapshots)
            self.snapshots = self.parts[SNAPSHOTS] = kept
        if chosen:
            checkpoints.load_rank(checkpoints.folder_of(strategy.args) / chosen, self.parts)

    def save_checkpoint(self, tag: str, client_states: Any = None, **metric: Any) -> None:
        """Begins a checkpoint in place of upstream's, see checkpoints.py; saves() tells when it is complete."""
        args = self.strategy.args
        store = Store(checkpoints.folder_of(args))
        companions = partial(export.write_companions, config=self.actor.model.module.config, args=args)
        if not self.disable_ds_ckpt:
            facts = {**context.of(args).facts, "metric": metric}
            if args.ds.lora.rank:
                facts["lora_dtype"] = str(lora.adapter_dtype(self.actor.model.module)).removeprefix("torch.")
            after = partial(store.prune, tag, args.ckpt.max_num, args.ckpt.max_mem * 2**30)
            states = self.parts, client_states or {}, facts
            checkpoints.save(self.actor.model, store, tag, *states, companions, self.background, after)
        if self.save_hf_ckpt:
            self._export(Path(args.ckpt.path) / f"{tag}_hf")

    def saves(self, wait: bool) -> list[Saved]:
        """Checkpoints that have become complete since the last call. Raises what kept one from it."""
        return self.background.complete(wait)

    def save_model(self) -> None:
        """The export at the end of a run."""
        self._export(Path(self.strategy.args.ckpt.output_dir))

    def _export(self, out: Path) -> None:
        """All ranks gather the weights, or their moving average, and rank 0 writes them."""
        engine, average = self.actor.model, self.trainer.average
        with average.in_place() if average else contextlib.nullcontext():
            checkpoints.refuse_nonfinite(engine.module)
            state = export.gather(engine, self.strategy.args)
            # Inside the block: on a CPU what was gathered may be the weights themselves.
            if dist.get_rank() == 0:
                with export.temporary_companions(engine.module.config, self.strategy.args) as companions:
                    export.write(state, companions, out, self.strategy.args.model.trust_remote_code)
        dist.barrier()

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

    def forward_in_fp32(self, **inputs: Any) -> ActorForward:
        """forward() without the rounding of the actor's precision."""
        with InFp32():
            return self.forward(**inputs)

    @torch.no_grad()
    def judge(self, pairs: list | None, weights: torch.Tensor | None, **inputs: torch.Tensor) -> Judged:
        """See hidden.py."""
        self.actor.eval()
        there = {name: value.to(torch.cuda.current_device()) for name, value in inputs.items()}
        judged = judge(self.actor, pairs=pairs, weights=weights, **there)
        self.actor.train()
        return judged

    def prepare(self, **settings: Any) -> None:
        """What depends on the global step: see PrefixActorTrainer.prepare."""
        self.trainer.prepare(**settings)

    def make_mask(self, rows: list[Experience]) -> float:
        """Chooses the weights that train by the whole of `rows`, the same on all ranks; returns their share."""
        args, single = self.strategy.args, [one for row in rows for one in split_experience_batch(row)]
        losses = [partial(self.trainer.example_loss, one) for one in single]
        self.actor.train()
        self.trainer.mask.make(args.mask.method, mask_share(args), losses)
        return self.trainer.mask.share

    def take_snapshot(self, stage: int) -> None:
        """See snapshots.py."""
        self.snapshots.take(stage)

    def act_as(self, stage: int | None) -> None:
        """See snapshots.py; every rank has to be asked."""
        self.snapshots.act_as(stage)

    def rejoin_engines(self) -> None:
        """After an engine was replaced: it has to hear what comes in which bucket, and to join a new group; CUDA IPC
        needs none."""
        self.trainer.sender.introduced = False
        if dist.get_rank() == 0 and not self.trainer.use_cuda_ipc:
            self.trainer._init_vllm_sync_group(self.strategy.args.vllm.sync_backend)

    def weight_fingerprints(self) -> dict[str, int]:
        """See weights/check.py; every rank has to be asked."""
        flags = self.strategy.args.ds.lora
        model = self.actor.model.module
        return lora.fingerprints(model, lora.scaling(flags)) if flags.rank else trainer_fingerprints(model)

    def flip_lowest_bits(self) -> None:
        """See weights/check.py."""
        flip_lowest_bits(self.actor.model.module)

    def device(self) -> str:
        """Name of what this rank computes on."""
        return adapter.current().device_name()

    def attention_kernels(self) -> list[str] | None:
        """Names of the GPU kernels of one forward pass; None without CUDA."""
        tokens = torch.arange(1, 65).unsqueeze(0)
        return adapter.current().kernels(
            lambda: self.forward(tokens, torch.ones(1, 63, dtype=torch.bool), torch.ones_like(tokens))
        )

    def accumulation_coefficients(self) -> list[list[float]]:
        """See probe.py; every rank has to be asked."""
        return accumulation_coefficients(self.strategy)


PrefixPolicyActor = ray.remote(num_gpus=1)(PrefixPolicy)
