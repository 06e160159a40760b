"""An experience maker whose groups of actors are this process group: Ray's part is played by the ranks themselves."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch

RAY_IS_USED_BY = (
    "openrlhf.trainer.ray.launcher",
    "openrlhf.trainer.ppo_utils.experience_maker",
    "openrlhf_prefix.runtime.controller.experience_maker",
)
NOBODY = SimpleNamespace(controller=None, trust=None, group=None)  # in place of a sampler, or of a teacher


class Ranks:
    """`ray` and the actors of a group on the ranks of this process group: OpenRLHF's own RayActorGroup deals out, each
    rank runs its own share, and get() brings the answers of all together."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.passes: list[int] = []  # of every rank

    def group(self) -> Any:
        from openrlhf.trainer.ray.launcher import RayActorGroup

        made = object.__new__(RayActorGroup)
        made.duplicate_actors, count = 1, torch.distributed.get_world_size()
        made._actor_handlers = [
            SimpleNamespace(execute_batch=SimpleNamespace(remote=partial(self._ask, rank))) for rank in range(count)
        ]
        return made

    def _ask(self, rank: int, method: str, data: dict, start: int, end: int) -> Callable[[], list]:
        self.passes.append(end - start)
        return lambda: self._run(method, data, start, end) if rank == torch.distributed.get_rank() else []

    def _run(self, *call: Any) -> list:
        assert len(set(self.passes)) == 1, f"ZeRO-3 would hang: the ranks make {self.passes} passes"
        return self.model.execute_batch(*call)

    @staticmethod
    def put(value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value  # a list is of references, for get()

    @staticmethod
    def get(references: list | tuple) -> list:
        if isinstance(references, tuple):
            return list(references)
        gathered: list[Any] = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(gathered, references[torch.distributed.get_rank()]())
        return gathered


@contextmanager
def made_over_ranks(
    strategy: Any,
    actors: Ranks,
    references: Ranks | None = None,
    kl: float = 0.0,
    sampler: Any = NOBODY,
    teacher: Any = NOBODY,
    stages: Any = None,
) -> Iterator[Any]:
    """The maker, while Ray is replaced. Every rank has to do with it what the others do."""
    from openrlhf_prefix.runtime.controller.contrast import Contrasting
    from openrlhf_prefix.runtime.controller.experience_maker import PrefixExperienceMaker
    from openrlhf_prefix.runtime.controller.rescue import Rescue
    from openrlhf_prefix.runtime.seams import replaced

    with ExitStack() as stack:
        for module in RAY_IS_USED_BY:
            stack.enter_context(replaced(module, "ray", Ranks))
        yield PrefixExperienceMaker(
            actors.group(),
            None,
            None,
            references and references.group(),
            SimpleNamespace(value=kl),
            strategy,
            SimpleNamespace(pad_token_id=0),
            sampler=sampler,
            rescue=Rescue(strategy.args, SimpleNamespace(by_id={})),
            teacher=teacher,
            contrasting=Contrasting(strategy.args, stages),
        )
