"""The flags that make a plan fit. None is guessed: each is tried on the plan itself."""

import copy
from collections.abc import Iterator
from types import SimpleNamespace

from openrlhf_prefix import pins
from openrlhf_prefix.plan.architectures import Architecture
from openrlhf_prefix.plan.memory import Plan, make_plan
from openrlhf_prefix.settings.derived import has_reference, teacher_folder

Change = dict[str, object]  # flag -> value


def candidates(args: SimpleNamespace, model: Architecture) -> Iterator[Change]:
    """Flags that take less memory, the cheapest first; those that are set already are left out."""
    if args.train.colocate_all and not (args.vllm.enable_sleep and args.ds.enable_sleep):
        yield {"vllm.enable_sleep": True, "ds.enable_sleep": True}
    if args.actor.fused_head == "off":
        yield {"actor.fused_head": "auto"}
    if not args.actor.gradient_checkpointing_enable:
        yield {"actor.gradient_checkpointing_enable": True}
    if args.train.dynamic_batch_enable and args.train.max_tokens_per_gpu > args.data.max_len:
        yield {"train.max_tokens_per_gpu": args.data.max_len, "rollout.max_tokens_per_gpu": args.data.max_len}
    if not args.train.dynamic_batch_enable and args.train.micro_batch_size > 1:
        yield {"train.micro_batch_size": 1}
    if args.ds.zero_stage < 3:
        yield {"ds.zero_stage": 3}
    for share in (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3):
        if abs(share - args.vllm.gpu_memory_utilization) > 1e-6:
            yield {"vllm.gpu_memory_utilization": share}
    wider = 2 * args.vllm.tensor_parallel_size
    if wider <= args.actor.num_gpus_per_node and args.actor.num_gpus_per_node % wider == model.heads % wider == 0:
        yield {"vllm.tensor_parallel_size": wider}
    if not args.ds.adam_offload:
        yield {"ds.adam_offload": True}
    if has_reference(args) and not args.ref.offload:
        yield {"ref.offload": True}
    if teacher_folder(args) and not args.teacher.offload:
        yield {"teacher.offload": True}
    if not pins.missing(*pins.RING_ATTENTION):
        yield {"ds.ring_attn_size": 2 * args.ds.ring_attn_size}
    yield {"actor.num_nodes": 2 * args.actor.num_nodes}


def mends(args: SimpleNamespace, model: Architecture, capacity: float) -> list[Change]:
    """Single changes that make it fit, up to three; where there is none, one change of several flags, or nothing."""
    singles = [change for change in candidates(args, model) if fits(args, model, capacity, change)]
    if singles:
        return singles[:3]
    together: Change = {}
    for change in candidates(args, model):
        if "vllm.gpu_memory_utilization" in change:
            continue  # does not add to another value of itself
        together |= change
        if fits(args, model, capacity, together):
            return [together]
    return []


def fits(args: SimpleNamespace, model: Architecture, capacity: float, change: Change) -> bool:
    return not changed_plan(args, model, capacity, change).failures()


def changed_plan(args: SimpleNamespace, model: Architecture, capacity: float, change: Change) -> Plan:
    changed = copy.deepcopy(args)
    for flag, value in change.items():
        section, name = flag.split(".")
        setattr(getattr(changed, section), name, value)
    return make_plan(changed, model, capacity)


def as_flags(change: Change) -> str:
    return " ".join(f"--{flag}" if value is True else f"--{flag} {value}" for flag, value in change.items())
