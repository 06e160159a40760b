"""The teacher's actors, placed as OpenRLHF places its reference model's: on the actor's GPUs, or on their own.

OpenRLHF's train() knows no teacher. This group is made and handed over where it starts the controller, which loads the
model: engines measure the memory of their GPUs before (controller/trainer.py).
"""

from types import SimpleNamespace
from typing import Any

from openrlhf.trainer.ray.launcher import RayActorGroup

from openrlhf_prefix.runtime.learner.frozen import PrefixTeacherActor
from openrlhf_prefix.settings.derived import placement, teacher_folder

SHARE = 0.2  # of a GPU, in Ray's books: OpenRLHF's, for each of the models on it


class PlacedGroup(RayActorGroup):
    """OpenRLHF's group, which remembers its placement group: None where every actor has a GPU of its own."""

    def __init__(self, *args: Any, pg: Any = None, **kwargs: Any) -> None:
        self.pg = pg
        super().__init__(*args, pg=pg, **kwargs)


def teacher_group(args: SimpleNamespace, actor: PlacedGroup) -> PlacedGroup | None:
    """Actors without a model yet; None where the flags ask for no model of its own.

    Args:
        actor: the policy's group.
    """
    if teacher_folder(args) is None:
        return None
    return PlacedGroup(
        *placement(args, "teacher"),
        PrefixTeacherActor,
        pg=actor.pg,
        num_gpus_per_actor=SHARE if actor.pg else 1,
        duplicate_actors=args.ds.ring_attn_size * args.ds.tensor_parallel_size,
    )
