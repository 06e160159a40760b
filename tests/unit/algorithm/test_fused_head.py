"""Against plain log_softmax of the whole logits, by autograd; in fp64, so that only a wrong formula can differ."""

import itertools

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from openrlhf_prefix.algorithm import fused_head
from openrlhf_prefix.algorithm.fused_head import linear_log_probs


def plain(hidden, weight, labels, temperature=1.0, bias=None):
    logits = torch.nn.functional.linear(hidden, weight, bias)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32)) / temperature
    every = logits.log_softmax(-1)
    return every.gather(-1, labels[:, None]).squeeze(-1), -(every.exp() * every).sum(-1)


def drawn(tokens, vocabulary, width, seed=0, dtype=torch.float64, bias=True):
    """(hidden, weight, labels, bias); the logits are sharp enough that entropies differ between tokens."""
    generator = torch.Generator().manual_seed(seed)
    hidden, weight, of_vocabulary = (
        torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
        for shape in ((tokens, width), (vocabulary, width), (vocabulary,))
    )
    labels = torch.randint(vocabulary, (tokens,), generator=generator)
    return hidden, weight, labels, of_vocabulary if bias else None


def gradients(function, tensors, seed=1):
    """Outputs, and gradients of a loss with a coefficient of its own for every number."""
    outputs = [output for output in function() if output is not None]
    generator = torch.Generator().manual_seed(seed)
    total = sum((output * torch.randn(output.shape, generator=generator)).sum() for output in outputs)
    return [output.detach() for output in outputs], torch.autograd.grad(total, tensors)


@pytest.mark.parametrize("entropy", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_gradcheck(monkeypatch, entropy: bool, bias: bool) -> None:
    monkeypatch.setattr(fused_head, "MOST", 14)  # chunks of 2 tokens, blocks of 2 columns
    hidden, weight, labels, added = drawn(5, 7, 3, bias=bias)

    def outputs(*tensors):
        found = linear_log_probs(tensors[0], tensors[1], labels, 0.7, entropy, tensors[2] if bias else None)
        return found if entropy else found[0]

    assert torch.autograd.gradcheck(outputs, (hidden, weight, added) if bias else (hidden, weight))


@pytest.mark.parametrize("most", [1, 40, 333, 2**26])
def test_any_size_of_chunk_and_block(monkeypatch, most: int) -> None:
    """Of one token and column, of sizes that do not divide, and all at once."""
    monkeypatch.setattr(fused_head, "MOST", most)
    for seed, (tokens, vocabulary, width) in enumerate(itertools.product((1, 6, 17), (2, 31), (1, 8))):
        hidden, weight, labels, bias = drawn(tokens, vocabulary, width, seed)
        found, found_gradients = gradients(
            lambda given=(hidden, weight, labels, 0.6, True, bias): linear_log_probs(*given), (hidden, weight, bias)
        )
        wanted, wanted_gradients = gradients(
            lambda given=(hidden, weight, labels, 0.6, bias): plain(*given), (hidden, weight, bias)
        )
        torch.testing.assert_close([*found, *found_gradients], [*wanted, *wanted_gradients], rtol=1e-11, atol=1e-12)


def test_two_tokens_by_hand() -> None:
    """Logits (ln 3, 0) at temperature 1 are p = (3/4, 1/4); at 1/2 they are (2 ln 3, 0), p = (9/10, 1/10)."""
    hidden, weight = torch.tensor([[3.0]]).log(), torch.tensor([[1.0], [0.0]])
    for temperature, p in ((1.0, torch.tensor([0.75, 0.25])), (0.5, torch.tensor([0.9, 0.1]))):
        for label in (0, 1):
            log_probs, entropies = linear_log_probs(hidden, weight, torch.tensor([label]), temperature, True)
            torch.testing.assert_close(log_probs, p[label : label + 1].log())
            torch.testing.assert_close(entropies, -(p * p.log()).sum().reshape(1))


def test_entropy_is_none_where_nobody_asks_and_changes_nothing_else() -> None:
    hidden, weight, labels, bias = drawn(4, 9, 3)
    alone, nothing = linear_log_probs(hidden, weight, labels, 0.8, bias=bias)
    beside, entropies = linear_log_probs(hidden, weight, labels, 0.8, True, bias)
    assert nothing is None and torch.equal(alone, beside)
    wanted = torch.autograd.grad(plain(hidden, weight, labels, 0.8, bias)[1].sum(), weight)[0]
    found = torch.autograd.grad(entropies.sum(), weight)[0]  # with no gradient from the log-probs
    torch.testing.assert_close(found, wanted, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("frozen", ["hidden", "weight", "bias"])
def test_what_is_frozen_gets_no_gradient(frozen: str, monkeypatch) -> None:
    hidden, weight, labels, bias = drawn(4, 9, 3)
    tensors = {"hidden": hidden, "weight": weight, "bias": bias}
    tensors[frozen].requires_grad_(False)
    left = [tensor for name, tensor in tensors.items() if name != frozen]
    shapes = []
    product = fused_head._product
    monkeypatch.setattr(fused_head, "_product", lambda *given: shapes.append(product(*given).shape) or product(*given))
    _, found = gradients(lambda: linear_log_probs(hidden, weight, labels, 0.5, True, bias), left)
    _, wanted = gradients(lambda: plain(hidden, weight, labels, 0.5, bias), left)
    torch.testing.assert_close(found, wanted, rtol=1e-11, atol=1e-12)
    assert (hidden.shape in shapes, weight.shape in shapes) == (frozen != "hidden", frozen != "weight")


def test_no_token_is_a_differentiable_zero() -> None:
    """A rank whose micro-batch holds no action token still runs its backward, which gathers weights for the others."""
    hidden, weight, labels, bias = drawn(0, 9, 3)
    log_probs, entropies = linear_log_probs(hidden, weight, labels, 0.5, True, bias)
    assert log_probs.shape == entropies.shape == (0,)
    (log_probs.sum() + entropies.sum()).backward()
    assert hidden.grad.shape == (0, 3)
    assert torch.equal(weight.grad, torch.zeros(9, 3)) and torch.equal(bias.grad, torch.zeros(9))


@pytest.mark.parametrize("entropy", [False, True])
def test_in_bf16_it_is_as_near_to_the_truth_as_the_plain_way(entropy: bool, monkeypatch) -> None:
    """Truth: fp64 from the same bf16 inputs. Of 24 blocks, a rounding of each in the gradient of `hidden` would show:
    its error would be 1.12 times the plain way's, and 2.3 times if they were summed up in bf16."""
    monkeypatch.setattr(fused_head, "MOST", 64 * 96)
    hidden, weight, labels, _ = drawn(96, 1500, 48, dtype=torch.bfloat16, bias=False)
    with torch.no_grad():
        weight.mul_(0.3)
    exact = [tensor.detach().double().requires_grad_() for tensor in (hidden, weight)]
    ways = {
        "truth": lambda: plain(*exact, labels, 0.9),
        "plain": lambda: plain(hidden, weight, labels, 0.9),
        "fused": lambda: linear_log_probs(hidden, weight, labels, 0.9, entropy),
    }
    cut = slice(None) if entropy else slice(1)
    found = {
        name: gradients(lambda way=way: way()[cut], exact if name == "truth" else (hidden, weight))
        for name, way in ways.items()
    }
    assert found["fused"][0][0].dtype == torch.float32 and found["fused"][1][1].dtype == torch.bfloat16
    flat = {name: [*outputs, *grads] for name, (outputs, grads) in found.items()}
    for truth, usual, ours in zip(flat["truth"], flat["plain"], flat["fused"], strict=True):
        assert (ours.double() - truth).norm() <= 1.001 * (usual.double() - truth).norm()


def test_cuda_has_the_product_that_is_not_rounded() -> None:
    """What _unrounded() calls there, by the shapes alone."""
    left, right = (torch.zeros(shape, dtype=torch.bfloat16, device="meta") for shape in ((4, 5), (5, 3)))
    assert torch.mm(left, right, out_dtype=torch.float32).dtype == torch.float32


def test_a_used_graph_is_refused_and_a_retained_one_is_right() -> None:
    hidden, weight, labels, _ = drawn(4, 9, 3)
    log_probs, _ = linear_log_probs(hidden, weight, labels)
    once = torch.autograd.grad(log_probs.sum(), weight, retain_graph=True)[0]
    torch.testing.assert_close(torch.autograd.grad(log_probs.sum(), weight)[0], once)
    with pytest.raises(RuntimeError, match="used already: run the forward again"):
        torch.autograd.grad(log_probs.sum(), weight)
    log_probs, _ = linear_log_probs(hidden, weight, labels)
    with pytest.raises(RuntimeError, match="no second derivative"):
        torch.autograd.grad(log_probs.sum(), weight, create_graph=True)


class Largest(TorchDispatchMode):
    """The most elements of a tensor that is made in the block, views of given tensors aside."""

    def __init__(self, given) -> None:
        super().__init__()
        self.given, self.most = {tensor.untyped_storage().data_ptr() for tensor in given}, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (list, tuple)) else (result,):
            if isinstance(tensor, torch.Tensor) and tensor.untyped_storage().data_ptr() not in self.given:
                self.most = max(self.most, tensor.numel())
        return result


@pytest.mark.parametrize("entropy", [False, True])
def test_no_tensor_of_tokens_by_vocabulary(entropy: bool, monkeypatch) -> None:
    """100 x 1000 logits are 100,000 numbers. Whatever is made has at most the larger of a block and a gradient."""
    monkeypatch.setattr(fused_head, "MOST", 4_000)
    hidden, weight, labels, bias = drawn(100, 1000, 4)
    saved = []
    with (
        Largest([hidden, weight, labels, bias]) as seen,
        torch.autograd.graph.saved_tensors_hooks(lambda tensor: saved.append(tensor) or tensor, lambda tensor: tensor),
    ):
        found = linear_log_probs(hidden, weight, labels, 0.7, entropy, bias)
        sum(output.sum() for output in found if output is not None).backward()
    assert seen.most == weight.numel() == 4_000
    kept = sum(tensor.numel() for tensor in saved if tensor.data_ptr() not in {hidden.data_ptr(), weight.data_ptr()})
    assert kept <= 4 * len(hidden) + len(weight)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"hidden": torch.zeros(2, 4, 3)}, "give .T, H. and .V, H."),
        ({"weight": torch.zeros(9, 4)}, "give .T, H. and .V, H."),
        ({"labels": torch.zeros(5, dtype=torch.long)}, "give .4,. of int64"),
        ({"labels": torch.zeros(4)}, "give .4,. of int64"),
        ({"labels": torch.zeros(4, 1, dtype=torch.long)}, "give .4,. of int64"),
        ({"bias": torch.zeros(3)}, "bias .3,.: give .9,."),
        ({"temperature": 0.0}, "give one above 0"),
        ({"temperature": float("nan")}, "give one above 0"),
    ],
)
def test_what_does_not_fit_is_refused(change, words: str) -> None:
    given = {"hidden": torch.zeros(4, 3), "weight": torch.zeros(9, 3), "labels": torch.zeros(4, dtype=torch.long)}
    with pytest.raises(ValueError, match=words):
        linear_log_probs(**given | change)


@pytest.mark.parametrize(("most", "products"), [(36, 1), (35, 4)])
def test_logits_are_made_again_only_where_they_are_too_many_to_keep(monkeypatch, most: int, products: int) -> None:
    """4 x 9 of them. With room for 35: chunks of 3 and 1 tokens forward, blocks of 8 and 1 columns backward. A graph
    that is retained gives the same gradients again."""
    monkeypatch.setattr(fused_head, "MOST", most)
    made, logits = [], fused_head._logits
    monkeypatch.setattr(fused_head, "_logits", lambda *given: made.append(1) or logits(*given))
    hidden, weight, labels, bias = drawn(4, 9, 3)
    log_probs, entropies = linear_log_probs(hidden, weight, labels, 0.5, True, bias)
    total = (log_probs * torch.arange(1.0, 5.0)).sum() + entropies.sum()
    first = torch.autograd.grad(total, (hidden, weight, bias), retain_graph=True)
    assert len(made) == products
    assert all(map(torch.equal, first, torch.autograd.grad(total, (hidden, weight, bias))))
    made.clear()
    with torch.no_grad():
        linear_log_probs(hidden, weight, labels, 0.5, True, bias)
    assert len(made) == (1 if most == 36 else 2)
