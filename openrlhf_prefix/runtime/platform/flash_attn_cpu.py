"""Pure-PyTorch stand-ins for the functions of flash_attn that OpenRLHF imports.

flash_attn cannot be built without CUDA. `openrlhf.models.ring_attn_utils` needs four padding helpers and one gather of
it; attention itself runs through PyTorch's sdpa there. The stand-ins are put into `sys.modules` under flash_attn's
names, with a real `__spec__` because transformers probes for one. Anything else of flash_attn stays absent and raises
ImportError: a kernel that is not here must not be imitated.
"""

import importlib.machinery
import sys
import types

import torch
import torch.distributed as dist


def rearrange(tensor: torch.Tensor, pattern: str) -> torch.Tensor:
    """The one pattern that OpenRLHF uses: (b, s, ...) -> (b * s, ...)."""
    if pattern != "b s ... -> (b s) ...":
        raise NotImplementedError(f"the CPU stand-in of rearrange does not know {pattern!r}")
    return tensor.flatten(0, 1)


def index_first_axis(tensor: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
    """Rows `indices` of the first axis."""
    return tensor[indices]


def unpad_input(
    hidden: torch.Tensor, attention_mask: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, int, torch.Tensor]:
    """(B, S, ...) without its padding.

    Returns:
        tokens (T, ...), their flat indices (T,), cumulative lengths (B + 1,) int32, longest row, lengths (B,) int32.
    """
    lengths = attention_mask.sum(-1, dtype=torch.int32)
    indices = attention_mask.flatten().nonzero().flatten()
    cumulative = torch.nn.functional.pad(lengths.cumsum(0, dtype=torch.int32), (1, 0))
    return hidden.flatten(0, 1)[indices], indices, cumulative, int(lengths.max()), lengths


def pad_input(tokens: torch.Tensor, indices: torch.Tensor, batch: int, seqlen: int) -> torch.Tensor:
    """The opposite of unpad_input: (T, ...) -> (B, S, ...), zeros where there was padding."""
    padded = tokens.new_zeros(batch * seqlen, *tokens.shape[1:])
    return padded.index_put((indices,), tokens).unflatten(0, (batch, seqlen))


def all_gather(tensor: torch.Tensor, process_group: dist.ProcessGroup | None = None) -> torch.Tensor:
    """Concatenation of every rank's tensor along the first axis, differentiable."""
    parts = torch.distributed.nn.functional.all_gather(tensor, group=process_group)
    return torch.cat(parts)


def install() -> None:
    """Puts the stand-ins where `import flash_attn...` finds them."""
    padding = _module("flash_attn.bert_padding", rearrange, index_first_axis, unpad_input, pad_input)
    distributed = _module("flash_attn.utils.distributed", all_gather)
    utils = _module("flash_attn.utils")
    package = _module("flash_attn")
    package.__version__ = "0.0.0"
    package.bert_padding, package.utils, utils.distributed = padding, utils, distributed


def _module(name: str, *functions: object) -> types.ModuleType:
    module = types.ModuleType(name, doc="CPU stand-in, see openrlhf_prefix.runtime.platform.flash_attn_cpu")
    module.__spec__ = importlib.machinery.ModuleSpec(name, loader=None, is_package=True)
    module.__path__ = []
    for function in functions:
        setattr(module, function.__name__, function)
    sys.modules[name] = module
    return module
