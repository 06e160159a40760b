"""The flags with which a model fits into the GPUs there are, the fastest of those that do.

Every combination is tried on the plan itself. What costs least comes first: optimizer states on the GPU, then
activations kept; then the smallest engines that together hold half of a step's rows at once, or else the most of them.
"""

import itertools
from types import SimpleNamespace

from openrlhf_prefix.plan.architectures import Architecture
from openrlhf_prefix.plan.memory import GIB
from openrlhf_prefix.plan.mends import Change, changed_plan, fits

SHARES = (0.8, 0.7, 0.6, 0.5, 0.4, 0.3)  # vllm.gpu_memory_utilization
ENOUGH = 0.5  # of the rows of a step, at full length; most are shorter
WIDTHS = (1, 2, 4, 8)  # vllm.tensor_parallel_size


def fitting(args: SimpleNamespace, model: Architecture, capacity: float) -> Change | None:
    """The flags, those of the placement included; None where nothing fits.

    Args:
        args: nested; actor.num_nodes and actor.num_gpus_per_node are the cluster, which trainer and engines share.
        capacity: bytes of a GPU.
    """
    widths = [width for width in WIDTHS if args.actor.num_gpus_per_node % width == model.heads % width == 0]
    rows = args.rollout.batch_size * args.rollout.n_samples_per_prompt

    def held(change: Change) -> float:
        """Rows that all engines hold at once, of those of a step."""
        return min(rows, change["vllm.num_engines"] * changed_plan(args, model, capacity, change).kv_rows)

    for offload, checkpointing in itertools.product((False, True), (False, True)):
        changes = [_change(args, offload, checkpointing, *engine) for engine in itertools.product(widths, SHARES)]
        if those := [change for change in changes if fits(args, model, capacity, change)]:
            return next((change for change in those if held(change) >= ENOUGH * rows), max(those, key=held))
    return None


def _change(args: SimpleNamespace, offload: bool, checkpointing: bool, width: int, share: float) -> Change:
    nodes, gpus = args.actor.num_nodes, args.actor.num_gpus_per_node
    return {
        "actor.num_nodes": nodes,
        "actor.num_gpus_per_node": gpus,
        "train.colocate_all": True,
        "vllm.enable_sleep": True,
        "ds.enable_sleep": True,
        "ds.zero_stage": 3,
        "ds.adam_offload": offload,
        "actor.gradient_checkpointing_enable": checkpointing,
        "vllm.num_engines": nodes * gpus // width,
        "vllm.tensor_parallel_size": width,
        "vllm.gpu_memory_utilization": share,
    }


def proposal(args: SimpleNamespace, model: Architecture, capacity: float) -> list[str]:
    """Lines of a config file, and what they leave for rollouts; a sentence where nothing fits."""
    change = fitting(args, model, capacity)
    if change is None:
        where = f"{args.actor.num_nodes} nodes of {args.actor.num_gpus_per_node} GPUs"
        return [f"no flags make it fit into {where}: take more, or larger ones"]
    plan = changed_plan(args, model, capacity, change)
    lines = [f"{flag}: {str(value).lower()}" for flag, value in change.items()]
    rows, host = f"{plan.kv_rows:.0f} rows of full length at once in an engine", f"{plan.host / GIB:.0f} GiB"
    return [*lines, f"# {rows}; {host} of host memory a node for what sleeps, is offloaded or copied"]
