"""Scores of weights by hand, and the choice of the highest against a sort of all of them."""

import random
import threading

import pytest
import torch

from openrlhf_prefix.algorithm import mask as module
from openrlhf_prefix.algorithm.mask import SCORES, decay, highest, needs_examples, ordered, packed, unpacked

WEIGHTS = torch.tensor([3.0, 1.0])
EXAMPLES = ((0.0, 0.0), (7.0, 0.0))
# L_i(w) = (w1 - x_i)^2 / 2 + (w2 - y_i)^2: g_1 = (3, 2), g_2 = (-4, 2), g = (-1/2, 2)
BY_HAND = {
    "magnitude": (3.0, 1.0),
    "gradient": (0.5, 2.0),
    "snip": (1.5, 2.0),
    "force": (1.5, -2.0),
    "taylor": (2.25, 4.0),
    "fisher": ((9 + 16) / 2, 4.0),
    "retain_freeze": (0.5, 2.0),
}


def gradients() -> list[torch.Tensor]:
    found = []
    for x, y in EXAMPLES:
        weights = WEIGHTS.clone().requires_grad_()
        loss = (weights[0] - x) ** 2 / 2 + (weights[1] - y) ** 2
        found.append(*torch.autograd.grad(loss, weights))
    return found


@pytest.mark.parametrize("method", list(SCORES))
def test_a_quadratic_of_two_weights_by_hand(method: str) -> None:
    row = SCORES[method]
    mean = torch.stack([row.each(one) for one in gradients()]).mean(0) if row.each else WEIGHTS
    assert row.of(WEIGHTS, mean).tolist() == list(BY_HAND[method])


def test_magnitude_alone_needs_no_examples_and_no_mask_neither() -> None:
    assert [method for method in SCORES if not needs_examples(method)] == ["magnitude"]
    assert not needs_examples(None)


def test_bits_keep_the_order_of_numbers_and_know_one_zero() -> None:
    numbers = torch.tensor([-torch.inf, -1e30, -2.0, -1e-40, -0.0, 0.0, 1e-45, 1.0, 1.0 + 2**-23, torch.inf])
    keys = ordered(numbers).tolist()
    assert keys == sorted(keys) and len(set(keys)) == len(keys) - 1 and keys[4] == keys[5] == 0


def over_ranks(shares: list[list[tuple[int, torch.Tensor]]], count: int) -> list[list[torch.Tensor]]:
    """highest() on as many threads; a share is (first index, scores) of each part."""
    barrier, told = threading.Barrier(len(shares)), [0] * len(shares)
    found: list[list[torch.Tensor]] = [[] for _ in shares]

    def run(rank: int) -> None:
        def total(number: int) -> int:
            told[rank] = number
            barrier.wait(timeout=60)
            answer = sum(told)
            barrier.wait(timeout=60)
            return answer

        firsts, scores = zip(*shares[rank], strict=True) if shares[rank] else ((), ())
        found[rank] = highest(scores, firsts, count, total)

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(len(shares))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


@pytest.mark.parametrize("ranks", [1, 2, 3])
@pytest.mark.parametrize("count", [1, 7, 100, 199, 200])
def test_exactly_the_highest_and_of_equals_the_first(ranks: int, count: int) -> None:
    """Parts lie anywhere, on any rank; a third of the scores are equal, and some negative."""
    generator = torch.Generator().manual_seed(count)
    scores = torch.randn(200, generator=generator)
    scores[torch.rand(200, generator=generator) < 1 / 3] = 0.5
    edges = [0, 1, 50, 51, 130, 190, 200]
    parts = [(start + 1000, scores[start:end]) for start, end in zip(edges, edges[1:], strict=False)]
    random.Random(ranks).shuffle(parts)
    shares = [parts[rank::ranks] for rank in range(ranks)]
    found = over_ranks(shares, count)
    chosen = {
        first + int(place)
        for share, masks in zip(shares, found, strict=True)
        for (first, _), mask in zip(share, masks, strict=True)
        for place in mask.nonzero()
    }
    wanted = sorted(range(200), key=lambda index: (-float(scores[index]), index))[:count]
    assert chosen == {index + 1000 for index in wanted}


def test_a_rank_without_a_weight_takes_part() -> None:
    found = over_ranks([[(0, torch.tensor([1.0, 3.0]))], []], 1)
    assert found[0][0].tolist() == [False, True] and found[1] == []


def test_decay_acts_inside_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """As PyTorch's AdamW does it, which multiplies; in chunks, too."""
    monkeypatch.setattr(module, "CHUNK", 3)
    numbers = torch.tensor([1.0, -2.0, -0.0, 1e-42, 3.0, 0.1, 7.0])
    weights, inside = numbers.clone(), torch.tensor([1, 0, 0, 0, 1, 0, 1]).bool()
    decay(weights, inside, 1 - 0.1 * 0.01)
    plain = torch.nn.Parameter(numbers.clone())
    plain.grad = torch.zeros(7)
    torch.optim.AdamW([plain], lr=0.1, weight_decay=0.01).step()
    assert torch.equal(weights[inside], plain.data[inside]) and not torch.equal(weights[inside], numbers[inside])
    assert torch.equal(weights[~inside].view(torch.int32), numbers[~inside].view(torch.int32))


def test_a_mask_in_bits() -> None:
    mask = torch.tensor([1, 0, 1, 0, 0, 0, 0, 1, 0, 1]).bool()
    assert packed(mask).tolist() == [0b10000101, 0b10]
    for length in (0, 1, 8, 9, 1000):
        mask = torch.rand(length, generator=torch.Generator().manual_seed(length)) < 0.3
        assert packed(mask).dtype == torch.uint8 and len(packed(mask)) == -(-length // 8)
        assert torch.equal(unpacked(packed(mask), length), mask)
