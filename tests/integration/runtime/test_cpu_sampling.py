"""A token drawn by one random number has the probabilities of the model, and those of its own row's generator."""

import pytest
import torch

pytest.importorskip("vllm")

from openrlhf_prefix.runtime.platform.cpu_sampling import install, random_sample, upstream

PROBS = torch.tensor([[0.5, 0.0, 0.125, 0.375, 0.0]])


def seeded(seeds: list[int]) -> dict[int, torch.Generator]:
    return {row: torch.Generator().manual_seed(seed) for row, seed in enumerate(seeds)}


def test_words_come_as_often_as_their_probability_says() -> None:
    """20,000 draws: 4 standard deviations of a share of a half are 0.014."""
    drawn = random_sample(PROBS.expand(20_000, -1), {})
    shares = torch.bincount(drawn, minlength=5) / 20_000
    assert (shares - PROBS[0]).abs().max() < 0.014 and shares[1] == shares[4] == 0


def test_the_token_is_the_first_whose_cumulative_probability_exceeds_the_number(monkeypatch) -> None:
    """At the edges: 0 is of the first word, 0.5 and 0.625 of those that begin there, what is next to 1 of the last."""
    numbers = torch.tensor([0.0, 0.4999, 0.5, 0.6249, 0.625, 1 - 2**-53], dtype=torch.float64)
    monkeypatch.setattr(torch, "rand", lambda *shape, **options: numbers.clone())
    assert random_sample(PROBS.expand(6, -1), {}).tolist() == [0, 0, 2, 2, 3, 3]


def test_a_seeded_row_draws_the_same_whatever_is_beside_it() -> None:
    generator = torch.Generator().manual_seed(0)
    probs = torch.rand(8, 1000, generator=generator).softmax(-1)
    together = random_sample(probs, seeded(list(range(8))))
    alone = [int(random_sample(probs[row : row + 1], seeded([row]))) for row in range(8)]
    assert together.tolist() == alone and len(set(alone)) > 4
    some = {row: one for row, one in seeded(list(range(8))).items() if row % 2}
    assert random_sample(probs, some)[1::2].tolist() == alone[1::2]


def test_it_is_what_vllm_asks_on_a_cpu() -> None:
    install()
    sampler = upstream.TopKTopPSampler()
    logits = torch.full((2, 9), -torch.inf)
    logits[0, 3] = logits[1, 7] = 0.0
    tokens, _ = sampler.forward(logits, seeded([1, 2]), None, None)
    assert tokens.tolist() == [3, 7] and sampler.forward.__func__ is upstream.TopKTopPSampler.forward_native
