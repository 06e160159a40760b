"""One layout, trained for real: OpenRLHF's actor, a DeepSpeed engine, and our training loop or OpenRLHF's.

Plain gradient descent in fp32 takes the place of AdamW in bf16, so that the parameter change is the gradient itself.
With `bf16` (scripts/gpu_smoke.py) it is that of the fp32 weights which the engine keeps.
"""

import gc
import os
from functools import partial
from pathlib import Path
from typing import Any

import deepspeed
import torch
from deepspeed.utils import safe_get_full_fp32_param
from openrlhf.models import Actor
from openrlhf.trainer.ppo_utils.experience import Experience
from openrlhf.trainer.ray.ppo_actor import ActorPPOTrainer
from openrlhf.utils.deepspeed import DeepspeedStrategy

from openrlhf_prefix.runtime.audit.exactness.batch import LEARNING_RATE, STEP_ROWS, Row, Terms
from openrlhf_prefix.runtime.audit.exactness.layouts import Layout, flags
from openrlhf_prefix.runtime.learner.actor_trainer import PrefixActorTrainer
from openrlhf_prefix.runtime.rows.batches import COUNTS, STEP, deal
from openrlhf_prefix.runtime.rows.fields import CONTRAST, TEACHER
from openrlhf_prefix.runtime.rows.loss import hybrid_loss, trained_tokens, trains
from openrlhf_prefix.runtime.seams import replaced
from openrlhf_prefix.settings.resolve import flags_of


class PlainDescent(DeepspeedStrategy):
    """OpenRLHF's strategy with SGD, in fp32 or bf16."""

    bf16 = False

    def get_ds_train_config(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        config = super().get_ds_train_config(*args, **kwargs)
        config["optimizer"] = {"type": "SGD", "params": {"lr": LEARNING_RATE}}
        config["bf16"]["enabled"] = self.bf16
        return config | {"zero_allow_untested_optimizer": True, "zero_force_ds_cpu_optimizer": False}


def train(
    layout: Layout, model: Path, rows: list[Row], terms: Terms, upstream: bool, bf16: bool = False
) -> dict[str, torch.Tensor]:
    """Parameters, in fp32, after training one layout on this rank's share of the rows."""
    strategy = make_strategy(layout, terms)
    strategy.bf16 = bf16
    actor, optimizer, scheduler = make_actor(strategy, model)
    kind = ActorPPOTrainer if upstream else PrefixActorTrainer
    trainer = kind(
        strategy,
        actor,
        ema_model=None,
        actor_optim=optimizer,
        actor_scheduler=scheduler,
        micro_train_batch_size=max(layout.micro, 1),
    )
    if not upstream:
        # What it measures must leave nothing behind.
        trainer.prepare(terms.imitation_coef, measure_prefix=True, teacher_coef=terms.teacher_coef)
    experiences = [experience(row, terms.teacher_coef > 0, terms.contrast) for row in rows]
    if terms.on_policy:
        for one in experiences:
            one.action_log_probs = torch.full_like(one.action_log_probs, torch.nan)
    args = strategy.args
    every = upstream or not layout.skipping  # OpenRLHF's loop counts what it is given
    loss = hybrid_loss(args)
    trained = [every or trains(trained_tokens(row, loss), args) for row in experiences]
    dealt = deal(experiences, STEP_ROWS, layout.ranks, trained)
    share = len(dealt) // layout.ranks
    for row in dealt[torch.distributed.get_rank() * share :][:share]:
        if upstream:  # whose loop takes every entry for a metric, a number
            row.info = {name: value for name, value in row.info.items() if name not in (STEP, COUNTS)}
        trainer.replay_buffer.append(row)
    # OpenRLHF shuffles the rows of a rank between its optimizer steps, which would compare different steps.
    in_order = partial(torch.utils.data.DataLoader, shuffle=False)
    with replaced("openrlhf.trainer.ray.ppo_actor", "DataLoader", lambda *a, shuffle, **k: in_order(*a, **k)):
        trainer.ppo_train(terms.kl_coef)
    after = {}
    for name, parameter in actor.model.module.named_parameters():
        with deepspeed.zero.GatheredParameters([parameter], enabled=layout.stage == 3):
            after[name] = parameter.detach().float().cpu().clone()
        if bf16:  # all ranks have to ask
            after[name] = safe_get_full_fp32_param(parameter).cpu().clone()
    actor.model.destroy()
    del trainer, actor, optimizer, scheduler
    gc.collect()
    return after


def make_strategy(layout: Layout, terms: Terms) -> Any:
    """The strategy with the flags of the layout."""
    args = flags_of(flags(layout, terms))
    args.local_rank = int(os.environ["LOCAL_RANK"])
    strategy = PlainDescent(
        seed=1,
        max_norm=0.0,
        micro_train_batch_size=args.train.micro_batch_size,
        train_batch_size=args.train.batch_size,
        zero_stage=layout.stage,
        args=args,
    )
    strategy.setup_distributed()
    return strategy


def make_actor(strategy: Any, model: Path) -> tuple[Any, Any, Any]:
    """OpenRLHF's Actor inside its DeepSpeed engine, in the strategy's precision, with optimizer and scheduler."""
    args, dtype = strategy.args, torch.bfloat16 if strategy.bf16 else torch.float32
    with replaced("openrlhf.utils.utils", "convert_to_torch_dtype", lambda name: dtype):
        actor = Actor(
            str(model),
            attn_implementation="sdpa",
            ds_config=strategy.get_ds_train_config(),
            packing_samples=args.ds.packing_samples,
            temperature=args.rollout.temperature,
        )
    settings = {
        "optim": "adam",
        "adam": vars(args.actor.adam),
        "lr_scheduler": "constant",
        "lr_warmup_ratio": 0.0,
        "max_norm": 0.0,
        "scheduler_steps": 10,
    }
    return strategy.prepare((actor, settings))


def experience(row: Row, taught: bool = False, contrast: bool = False) -> Experience:
    """A row as OpenRLHF's Experience of one row: everything about actions lies on the grid of tokens 1..T-1."""
    length = len(row.tokens)

    def on_grid(values: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.pad(values, (row.prompt - 1, 0)).unsqueeze(0)

    info = {"prefix_length": torch.tensor([row.prefix]), "row_entropy": torch.tensor([row.entropy])}
    told = {TEACHER: on_grid(row.teacher)} if taught else {}
    told |= {CONTRAST: torch.tensor([row.contrast])} if contrast else {}
    return Experience(
        sequences=row.tokens.unsqueeze(0),
        attention_mask=torch.ones(1, length, dtype=torch.long),
        action_mask=on_grid(torch.ones(length - row.prompt)).bool(),
        action_log_probs=on_grid(row.old),
        base_action_log_probs=on_grid(row.base),
        rollout_log_probs=on_grid(row.rollout),
        advantages=on_grid(row.advantages),
        rewards=torch.zeros(1),
        response_length=torch.tensor([length - row.prompt]),
        total_length=torch.tensor([length]),
        truncated=torch.zeros(1),
        info=info | told,
    )
