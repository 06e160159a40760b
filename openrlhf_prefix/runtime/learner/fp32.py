"""A forward pass whose products and activations are in fp32, from the weights as they lie, sharded or not.

Its log-probs against those of the usual pass are the rounding that the actor's precision costs on these rows: what a
difference between engine and actor is measured against (audit/doctor_controller.py).

The first activation is put into fp32, and every product puts its other factor there; all else follows by PyTorch's
rules of promotion. Attention kernels that know no fp32 round their inputs, and that share is not measured.
"""

from typing import Any

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode

LOW = (torch.bfloat16, torch.float16)
EMBEDDINGS = {functional.embedding, torch.embedding}
PRODUCTS = {
    functional.linear,
    functional.scaled_dot_product_attention,
    torch.matmul,
    torch.mm,
    torch.bmm,
    torch.addmm,
    torch.baddbmm,
    torch.Tensor.matmul,
    torch.Tensor.__matmul__,
}


def raised(value: Any) -> Any:
    """A tensor of low precision in fp32; anything else as it is."""
    return value.float() if isinstance(value, torch.Tensor) and value.dtype in LOW else value


class InFp32(TorchFunctionMode):
    """Context manager around a forward pass.

    Only what computes is touched: DeepSpeed's hooks, which gather weights inside the pass, have to see them as they
    are.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in PRODUCTS:
            args, kwargs = [raised(value) for value in args], {name: raised(value) for name, value in kwargs.items()}
        result = func(*args, **kwargs)
        return raised(result) if func in EMBEDDINGS else result
