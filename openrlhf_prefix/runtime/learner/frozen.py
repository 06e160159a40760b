"""Reference, teacher and reward model: OpenRLHF's actors, on the machine underneath like the policy."""

from typing import Any

import ray
from openrlhf.trainer.ray.launcher import ReferenceModelActor, RewardModelActor

from openrlhf_prefix.runtime import seams
from openrlhf_prefix.runtime.learner import head
from openrlhf_prefix.runtime.platform import adapter


class OnPlatform:
    """Without CUDA the ZeRO-3 of a frozen model needs the same stand-ins as the policy's."""

    def init_model_from_pretrained(self, *args: Any, **kwargs: Any) -> None:
        adapter.current().patch_trainer()
        super().init_model_from_pretrained(*args, **kwargs)


class PrefixReference(OnPlatform, seams.undecorated(ReferenceModelActor)):
    """OpenRLHF's reference model, with the policy's head."""

    role = "the reference model"

    def init_model_from_pretrained(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        super().init_model_from_pretrained(strategy, *args, **kwargs)
        head.fuse(self.model, strategy.args, self.role)


class PrefixTeacher(PrefixReference):
    """A second one of another model, which lies where teacher.offload says."""

    role = "the teacher"

    def init_model_from_pretrained(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        strategy.args.ref.offload = strategy.args.teacher.offload  # the copy of this process
        super().init_model_from_pretrained(strategy, *args, **kwargs)


class PrefixReward(OnPlatform, seams.undecorated(RewardModelActor)):
    """OpenRLHF's reward model."""


PrefixReferenceActor = ray.remote(num_gpus=1)(PrefixReference)
PrefixTeacherActor = ray.remote(num_gpus=1)(PrefixTeacher)
PrefixRewardActor = ray.remote(num_gpus=1)(PrefixReward)
