"""Log-probs and entropies straight from hidden states: the logits of all tokens never exist at once.

    z = (W h + b) / temperature        p = softmax(z)
    log_prob = z[label] - lse          lse = logsumexp(z)
    entropy = - sum p log p

    d log_prob / dz = 1[label] - p     d entropy / dz = - p (log p + entropy)

Forward goes through chunks of tokens and keeps lse. Once lse is known, any column of the logits can be made again by
itself (arXiv 2411.09009), so that backward goes through blocks of the vocabulary: each block of dW is one product over
all tokens, and is written once. No copy of dW in fp32 is needed, and nothing is summed up in a lower precision. Where
all logits together are no more than MOST, backward has them from forward.

Products take their factors in the precision that is given, like the head's own, and accumulate in fp32; all else is in
fp32, or in fp64 if that is given.
"""

from typing import Any

import torch
from torch.nn.functional import log_softmax

MOST = 2**26  # logits at once: 256 MiB in fp32, and up to three times that with what is made of them


def linear_log_probs(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    labels: torch.Tensor,
    temperature: float = 1.0,
    entropy: bool = False,
    bias: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Of T tokens and a vocabulary of V, for any coefficients of a loss; T may be 0.

    Args:
        hidden: (T, H).
        weight: (V, H) of the head, bias (V,) likewise. A gradient is computed only for what asks for one.
        labels: (T,) int64 within the vocabulary.
        temperature: what the logits are divided by.
        entropy: whether to compute entropies, too.

    Returns:
        Log-probs (T,) of the labels and entropies (T,) in nats, or None, in fp32 (fp64 if `hidden` is).

    Raises:
        ValueError: shapes that do not fit together, labels that are not int64, or a temperature that is not positive.
        RuntimeError: in a second backward through a graph that was not retained, or one with create_graph.
    """
    if hidden.dim() != 2 or weight.dim() != 2 or hidden.shape[1] != weight.shape[1]:
        raise ValueError(f"hidden {tuple(hidden.shape)} and weight {tuple(weight.shape)}: give (T, H) and (V, H)")
    if labels.shape != hidden.shape[:1] or labels.dtype != torch.int64:
        raise ValueError(f"labels {tuple(labels.shape)} {labels.dtype}: give ({len(hidden)},) of int64")
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"bias {tuple(bias.shape)}: give ({len(weight)},)")
    if not temperature > 0:
        raise ValueError(f"temperature is {temperature}: give one above 0")
    return _LinearLogProbs.apply(hidden, weight, bias, labels, temperature, entropy)


class _LinearLogProbs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        labels: torch.Tensor,
        temperature: float,
        entropy: bool,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        dtype = torch.promote_types(hidden.dtype, torch.float32)
        log_probs, lse, entropies = (hidden.new_empty(len(hidden), dtype=dtype) for _ in range(3))
        rows, kept = max(1, MOST // len(weight)), None
        for start in range(0, len(hidden), rows):
            part = slice(start, start + rows)
            logits = _logits(hidden[part], weight, bias, temperature, dtype)
            chosen = logits.gather(-1, labels[part, None])
            every = log_softmax(logits, -1)
            of_labels = every.gather(-1, labels[part, None])
            log_probs[part], lse[part] = of_labels.squeeze(-1), (chosen - of_labels).squeeze(-1)
            if entropy:
                entropies[part] = -torch.exp(every, out=logits).mul_(every).sum(-1)
            if len(hidden) <= rows and any(ctx.needs_input_grad):
                kept = every
            del logits, every  # before the next ones are made
        ctx.save_for_backward(hidden, weight, bias, labels, lse, entropies if entropy else None, kept)
        ctx.temperature = temperature
        ctx.set_materialize_grads(False)
        return log_probs, entropies if entropy else None

    @staticmethod
    def backward(ctx: Any, of_log_probs: torch.Tensor | None, of_entropies: torch.Tensor | None) -> tuple[Any, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError("linear_log_probs has no second derivative: leave create_graph out")
        hidden, weight, bias, labels, lse, entropies, kept = _saved(ctx)
        need_hidden, need_weight, need_bias = ctx.needs_input_grad[:3]
        of_labels = (torch.zeros_like(lse) if of_log_probs is None else of_log_probs) / ctx.temperature
        of_p, of_p_log_p = -of_labels, None  # the gradient of a logit is p * of_p + p log p * of_p_log_p + its label's
        if of_entropies is not None:
            of_p_log_p = -of_entropies / ctx.temperature
            of_p = of_p + of_p_log_p * entropies
        columns = max(1, MOST // max(1, *hidden.shape))
        whole = columns >= len(weight)  # one block: its products are the gradients, rounded once as they are
        d_hidden = torch.zeros_like(hidden, dtype=lse.dtype) if need_hidden and not whole else None
        d_weight = torch.empty_like(weight) if need_weight and not whole else None
        d_bias = torch.empty_like(bias) if need_bias else None
        for start in range(0, len(weight), columns):
            block = slice(start, start + columns)
            rows = weight[block]
            if kept is None:
                grad = _logits(hidden, rows, None if bias is None else bias[block], ctx.temperature, lse.dtype)
                grad = _of_logits(grad.sub_(lse[:, None]), of_p, of_p_log_p, spare=True)
            else:  # a graph that is retained needs it again
                grad = _of_logits(kept[:, block], of_p, of_p_log_p, spare=False)
            places = labels - start
            inside = (places >= 0) & (places < len(rows))
            values = torch.where(inside, of_labels, torch.zeros_like(of_labels))
            grad.scatter_add_(-1, places.clamp(0, len(rows) - 1)[:, None], values[:, None])
            if d_bias is not None:
                d_bias[block] = grad.sum(0)
            grad = grad.to(hidden.dtype)
            if whole:
                d_hidden = _product(grad, rows) if need_hidden else None
                d_weight = _product(grad.t(), hidden) if need_weight else None
                break
            if d_hidden is not None:
                d_hidden += _unrounded(grad, rows, lse.dtype)
            if d_weight is not None:
                d_weight[block] = _product(grad.t(), hidden)
            del grad
        return None if d_hidden is None else d_hidden.to(hidden.dtype), d_weight, d_bias, None, None, None


def _logits(
    hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, temperature: float, dtype: torch.dtype
) -> torch.Tensor:
    # By its full name: runtime/ puts its own in that place on a CPU without bf16, and in a pass in fp32.
    logits = torch.nn.functional.linear(hidden, weight, bias).to(dtype)
    return logits if temperature == 1.0 else logits.div_(temperature)


def _product(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """left @ right, by the function that _logits() takes."""
    return torch.nn.functional.linear(left, right.t())


def _unrounded(left: torch.Tensor, right: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """left @ right as it was accumulated: a term of a sum over blocks, which is rounded once, at its end."""
    if left.dtype != dtype and left.device.type != "cpu":
        return torch.mm(left, right, out_dtype=dtype)
    return _product(left.to(dtype), right.to(dtype))  # a CPU's product cannot return more than it was given


def _of_logits(log_p: torch.Tensor, of_p: torch.Tensor, of_p_log_p: torch.Tensor | None, spare: bool) -> torch.Tensor:
    """p * of_p + p log p * of_p_log_p, in the memory of log_p where that is spare."""
    if of_p_log_p is None:
        return (log_p.exp_() if spare else log_p.exp()).mul_(of_p[:, None])
    p = log_p.exp()
    scaled = log_p.mul_(of_p_log_p[:, None]) if spare else log_p * of_p_log_p[:, None]
    return scaled.add_(of_p[:, None]).mul_(p)


def _saved(ctx: Any) -> tuple[torch.Tensor, ...]:
    try:
        return ctx.saved_tensors
    except RuntimeError as error:
        if "a second time" not in str(error):
            raise
        raise RuntimeError(
            "this graph of linear_log_probs was used already: run the forward again, or retain it with retain_graph"
        ) from error
