"""The successor of an engine waits until its GPUs have the memory that vLLM asks for.

With train.colocate_all an engine may die while the trainer is awake. Ray makes it anew at once; vLLM asks for its
share of the whole GPU (vllm.gpu_memory_utilization) and does not find it, and an actor whose constructor fails is not
made again: the run would end. The trainer sleeps after its optimizer steps, before the controller misses the engine.
"""

import time
from collections.abc import Sequence

import ray
from ray.util.placement_group import get_current_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from openrlhf_prefix.machine import said_by
from openrlhf_prefix.runtime import deadlines

POLL_SECONDS = 5.0
MARGIN = 0.01  # of a GPU: vLLM looks after it has made its CUDA context there
ATOM = 0.01  # of a GPU: as much of a bundle as an actor and an engine's worker leave to a question


def free_share(gpus: Sequence[object]) -> float:
    """The smallest share of memory that is free on these GPUs, named as Ray names them; 1 where nothing tells."""
    found = said_by(
        "nvidia-smi",
        "-i",
        ",".join(map(str, gpus)),
        "--query-gpu=memory.free,memory.total",
        "--format=csv,noheader,nounits",
    )
    rows = [line.split(",") for line in (found or "").splitlines()]
    return min((float(free) / float(total) for free, total in rows), default=1.0)


def share_of(bundles: Sequence[int] | None) -> float:
    """free_share of this actor's GPU, or of those behind the bundles of an engine of several, on any node."""
    if bundles is None:
        return free_share(ray.get_gpu_ids())
    group = get_current_placement_group()
    ask = ray.remote(num_cpus=0, num_gpus=ATOM)(lambda: free_share(ray.get_gpu_ids()))
    places = [PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=bundle) for bundle in bundles]
    return min(ray.get([ask.options(scheduling_strategy=place).remote() for place in places]))


def is_successor() -> bool:
    """Whether Ray has made this actor anew."""
    return bool(ray.get_runtime_context().was_current_actor_reconstructed)


def wait_for(share: float, bundles: Sequence[int] | None) -> None:
    """Returns once `share` of the memory is free, or after --run.phase_seconds: vLLM then says what it misses."""
    deadline = time.monotonic() + deadlines.phase_seconds()
    while share_of(bundles) < share + MARGIN and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
