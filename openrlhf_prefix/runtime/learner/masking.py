"""The mask of the weights that train, over DeepSpeed's partitions: chosen once, and kept in every optimizer step.

DeepSpeed's optimizer holds the trained weights in fp32, cut over the ranks in flat pieces, and so is the mask. Of a
step's accumulated gradient everything outside becomes 0 before the norm is taken that clips it, and the weight decay
acts inside alone, so that a weight outside never changes a bit: Adam's moments stay 0 there. They are still held,
which is why a mask saves no memory; it costs a byte a weight, over all ranks.

Every rank passes the same examples, one at a time, and none is added to another in the rounding of the gradients: the
mask is the same for 1 and 2 ranks, whatever ZeRO stage, offload and micro-batches (algorithm/mask.py).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

from openrlhf_prefix.algorithm.mask import SCORES, Score, decay, highest, packed, unpacked
from openrlhf_prefix.errors import RunStopped
from openrlhf_prefix.runtime.learner import accumulation
from openrlhf_prefix.runtime.learner.average import holder

PART = "mask"  # its name among the parts of a rank's checkpoint


@dataclass(frozen=True)
class Fragment:
    """Elements of a parameter that lie together in a flat piece of this rank."""

    parameter: torch.nn.Parameter
    piece: int
    start: int  # in the piece
    length: int
    first: int  # index of its first element among all weights of the model
    scored: bool

    def of(self, piece: torch.Tensor) -> torch.Tensor:
        """Its elements."""
        return piece.narrow(0, self.start, self.length)


def fragments(model: torch.nn.Module, optimizer: Any) -> list[Fragment]:
    """Those of this rank, in the order of the model's weights. Matrices are scored, but for embeddings and head."""
    apart = [layer for layer in (model.get_input_embeddings(), model.get_output_embeddings()) if layer is not None]
    unscored = {id(layer.weight) for layer in apart}
    found, first = [], 0
    for parameter in model.parameters():
        shape = getattr(parameter, "ds_shape", parameter.shape)
        if parameter.requires_grad and (place := _place(parameter, optimizer)):
            piece, start, length, offset = place
            scored = len(shape) > 1 and id(parameter) not in unscored
            found.append(Fragment(parameter, piece, start, length, first + offset, scored))
        first += shape.numel()
    return found


def _place(parameter: torch.nn.Parameter, optimizer: Any) -> tuple[int, int, int, int] | None:
    """Piece, start in it, length and offset in the parameter of what this rank has of it; None for nothing."""
    if hasattr(parameter, "ds_tensor"):  # ZeRO-3
        piece, start, size = optimizer.grad_position[optimizer.get_param_id(parameter)]
        offset = size * dist.get_rank(parameter.ds_process_group)
        length = min(size, parameter.ds_numel - offset)
        return (piece, start, length, offset) if length > 0 else None
    mapping = parameter._hp_mapping
    if mapping is None:
        return None
    held, own = mapping.hp_fragment_address, mapping.lp_fragment_address
    return mapping.param_group_index, held.start, held.numel, own.start


def gradient(optimizer: Any, piece: int) -> list[torch.Tensor]:
    """What the last backward of a step left, before its end: tensors that follow each other in the piece."""
    if offloaded(optimizer):
        return [getattr(optimizer, holder(optimizer))[piece].grad]
    return optimizer.averaged_gradients[piece]


def offloaded(optimizer: Any) -> bool:
    """Whether the gradients wait for the step beside the fp32 weights, with their norms."""
    return bool(getattr(optimizer, "cpu_offload", False) or getattr(optimizer, "offload_optimizer", False))


class Mask:
    """That of one rank, as a Stateful of its checkpoints."""

    def __init__(self, engine: Any) -> None:
        """
        Args:
            engine: of DeepSpeed with ZeRO, whose optimizer is Adam.
        """
        self.engine, self.optimizer = engine, engine.optimizer
        self.fragments = fragments(engine.module, self.optimizer)
        self.pieces: list[torch.Tensor] = []  # (n,) bool for every flat piece of this rank; none before it is made
        self.share = 0.0  # of all weights of the model, those that train
        self.decays: list[float] = []
        self.optimizer.optimizer.register_step_pre_hook(self._before_step)
        self.optimizer.optimizer.register_step_post_hook(self._after_step)

    def _held(self) -> list[torch.Tensor]:
        return getattr(self.optimizer, holder(self.optimizer))

    def make(self, method: str, share: float, losses: Iterable[Callable[[], torch.Tensor]]) -> None:
        """Chooses the weights; all ranks have to call this, with the same examples.

        Args:
            method: row of SCORES.
            losses: a function for each example that runs its forward pass and returns its loss.

        Raises:
            RunStopped: a score is not finite.
        """
        row, scored = SCORES[method], [part for part in self.fragments if part.scored]
        scores = self._scores(row, scored, losses)
        wrong = self._total(sum(int((~part.isfinite()).sum()) for part in scores))
        if wrong:
            raise RunStopped(
                f"mask.method {method}: the scores of {wrong} weights are not finite; look at model and examples"
            )
        count = max(round(share * self._total(sum(map(len, scores)))), 1)
        chosen = highest(scores, [part.first for part in scored], count, self._total)
        pieces = [torch.zeros(len(piece), dtype=torch.bool, device=piece.device) for piece in self._held()]
        for part in self.fragments:
            part.of(pieces[part.piece]).fill_(row.freezes)
        for part, mask in zip(scored, chosen, strict=True):
            part.of(pieces[part.piece]).copy_(mask != row.freezes)
        self._take(pieces)

    def _scores(
        self, row: Score, scored: list[Fragment], losses: Iterable[Callable[[], torch.Tensor]]
    ) -> list[torch.Tensor]:
        """(n,) of each fragment; sums over the examples for means, which are in the same order."""
        held = self._held()
        values = [part.of(held[part.piece]).detach() for part in scored]
        if row.each is None:
            return [row.of(value, value).float() for value in values]
        sums = [torch.zeros_like(value, dtype=torch.float64) for value in values]
        for loss in losses:
            accumulation.accumulate(self.engine, [loss])
            flat = [torch.cat([part.reshape(-1) for part in gradient(self.optimizer, n)]) for n in range(len(held))]
            for part, total in zip(scored, sums, strict=True):
                total += row.each(part.of(flat[part.piece]).double())
            accumulation.discard(self.engine)
        return [row.of(value, total).float() for value, total in zip(values, sums, strict=True)]

    def _total(self, number: int) -> int:
        total = torch.tensor(number, dtype=torch.int64, device=torch.cuda.current_device())
        dist.all_reduce(total)
        return int(total)

    def _take(self, pieces: list[torch.Tensor]) -> None:
        self.pieces = pieces
        trained = self._total(sum(int(part.of(pieces[part.piece]).sum()) for part in self.fragments))
        self.share = trained / self._total(sum(part.length for part in self.fragments))

    @torch.no_grad()
    def apply(self) -> None:
        """Takes what is outside out of the accumulated gradient, between the last backward of a step and its end."""
        if not self.pieces:
            raise RuntimeError("a step before the mask was made or restored")
        for number in range(len(self.pieces)):
            place = 0
            for tensor in gradient(self.optimizer, number):
                flat = tensor.data.view(-1)
                mask = self.pieces[number] = self.pieces[number].to(flat.device)
                # -0.0 would change the sign of a weight that is -0.0; a NaN stays, and the step is left out.
                flat.mul_(mask.narrow(0, place, len(flat))).add_(0.0)
                place += len(flat)
        if offloaded(self.optimizer):  # the norms were taken as the gradients came
            norms = self.optimizer.norm_for_param_grads
            for part in self.fragments:
                key = self.optimizer.get_param_id(part.parameter)
                (whole,) = gradient(self.optimizer, part.piece)
                norms[key] = torch.linalg.vector_norm(part.of(whole), dtype=norms[key].dtype).to(norms[key].device)

    def _before_step(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        """Adam's decay in place of the optimizer's own, which knows no mask."""
        numbers = {id(piece): number for number, piece in enumerate(self._held())}
        self.decays = [group["weight_decay"] for group in optimizer.param_groups]
        for group in optimizer.param_groups:
            kept = 1 - group["lr"] * group["weight_decay"]
            for weights in group["params"] if kept != 1 else ():
                decay(weights.data, self.pieces[numbers[id(weights)]], kept)
            group["weight_decay"] = 0.0

    def _after_step(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        for group, usual in zip(optimizer.param_groups, self.decays, strict=True):
            group["weight_decay"] = usual

    def state_dict(self) -> dict[str, Any]:
        return {"bits": [packed(piece).cpu() for piece in self.pieces]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pairs = zip(state["bits"], self._held(), strict=True)
        self._take([unpacked(bits, len(piece)) for bits, piece in pairs])
