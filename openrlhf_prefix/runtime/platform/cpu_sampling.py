"""Draws of an engine on a CPU: one random number a token instead of one for every word of the vocabulary.

With u uniform in [0, 1), the token is the first one whose cumulative probability exceeds u. vLLM divides the
probabilities by exponential noise and takes the largest, and on a CPU it draws the noise of a seeded row twice: 31 ms
for 32 rows of 32,000 words, where this takes 2. On a GPU the noise is cheap, and vLLM's own way stays.
"""

import torch
from vllm.v1.sample.ops import topk_topp_sampler as upstream


def random_sample(
    probs: torch.Tensor, generators: dict[int, torch.Generator], use_fp64_gumbel: bool = False
) -> torch.Tensor:
    """(B,) tokens drawn from (B, V) probabilities; a row with a generator draws from it, whatever rows are beside it.

    `use_fp64_gumbel` is vLLM's wish for finer noise: everything is in fp64 here.
    """
    drawn = torch.rand(len(probs), dtype=torch.float64)
    for row, generator in generators.items():
        drawn[row] = torch.rand((), dtype=torch.float64, generator=generator)
    cumulative = probs.cumsum(-1, dtype=torch.float64)
    places = (drawn * cumulative[:, -1]).unsqueeze(-1)
    # right: a word of probability 0 is never the first to exceed a number.
    return torch.searchsorted(cumulative, places, right=True).squeeze(-1).clamp(max=probs.shape[1] - 1)


def install() -> None:
    """For every engine that this process makes from now on."""
    upstream.random_sample = random_sample
    upstream.TopKTopPSampler.forward_cpu = upstream.TopKTopPSampler.forward_native  # which asks random_sample()
