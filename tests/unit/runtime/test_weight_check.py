"""Fingerprints: exact, additive, and compared through vLLM's fused and sliced layers."""

import pytest
import torch

from openrlhf_prefix.runtime.weights import check
from openrlhf_prefix.runtime.weights.check import (
    Comparison,
    EngineWeights,
    compare,
    flip_lowest_bits,
    stale_weights,
)


def fingerprint(tensor: torch.Tensor) -> int:
    return int(check.fingerprint(tensor))


FUSED = {"qkv_proj": ["q_proj", "k_proj", "v_proj"]}


def weights(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(torch.bfloat16)


def engine(tensors: dict[str, torch.Tensor], kv_copies: int = 1) -> EngineWeights:
    return EngineWeights({name: fingerprint(value) for name, value in tensors.items()}, FUSED, kv_copies)


def test_a_fingerprint_by_hand() -> None:
    """bf16 1.0 is 0x3F80 = 127 x 2^7, -1.0 is 0xBF80 = -129 x 2^7 as a signed 16-bit integer. Of the cubes 127^3 and
    129^3 x 2^21 those below 2^32 are left: 127^3 = 2048 x 1000 + 383, 129^3 = 2048 x 1048 + 385. fp32 keeps all."""
    one, minus_one = 383 * 2**21 + 127 * 2**7, -385 * 2**21 - 129 * 2**7
    assert fingerprint(torch.tensor([1.0, 1.0], dtype=torch.bfloat16)) == 2 * one
    assert fingerprint(torch.tensor([1.0, -1.0], dtype=torch.bfloat16)) == one + minus_one
    assert fingerprint(torch.tensor([9], dtype=torch.int32).view(torch.float32)) == 9**3 + 9
    assert fingerprint(torch.tensor([2**14], dtype=torch.int32).view(torch.float32)) == 2**42 + 2**14
    assert fingerprint(torch.zeros(7, dtype=torch.bfloat16)) == 0


def test_no_two_numbers_of_16_bits_have_one_summand() -> None:
    every = torch.arange(-(2**15), 2**15, dtype=torch.int32)
    assert len({(x**3 + x) % 2**32 for x in every.tolist()}) == 2**16
    numbers = every.to(torch.int16).view(torch.bfloat16)
    assert fingerprint(numbers[:300]) == sum(_signed(x**3 + x) for x in every[:300].tolist())


def _signed(x: int) -> int:
    """x modulo 2^32, from -2^31 on."""
    return (x + 2**31) % 2**32 - 2**31


def test_changes_that_cancel_in_a_sum_of_bits_show() -> None:
    """One element a unit in the last place up, another one down; and the lowest bits of an even and an odd one
    flipped. x^3 + x, at 16256 -> 16257 and 16384 -> 16383, moves by 3 (16256^2 - 16384^2 + 16256 + 16384)."""
    before = torch.tensor([16256, 16384], dtype=torch.int16).view(torch.bfloat16)
    after = torch.tensor([16257, 16383], dtype=torch.int16).view(torch.bfloat16)
    assert fingerprint(after) - fingerprint(before) == -12_435_840
    model = torch.nn.Linear(2, 1, bias=False, dtype=torch.bfloat16)
    model.weight.data.copy_(torch.tensor([[16256, 16385]], dtype=torch.int16).view(torch.bfloat16))
    kept = fingerprint(model.weight)
    flip_lowest_bits(model)
    assert fingerprint(model.weight) != kept


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float16])
def test_slices_add_up_and_one_bit_shows(dtype: torch.dtype) -> None:
    whole = weights(6, 4).to(dtype)
    slices = fingerprint(whole[:2]) + fingerprint(whole[2:])
    assert (slices - fingerprint(whole)) % 2**64 == 0 and fingerprint(whole) == fingerprint(whole.t())
    model = torch.nn.Linear(4, 6, bias=False, dtype=dtype)
    model.weight.data.copy_(whole)
    flip_lowest_bits(model)
    assert fingerprint(model.weight) != fingerprint(whole) and (model.weight - whole).abs().max() < 0.02
    flip_lowest_bits(model)
    assert torch.equal(model.weight, whole)


PARTS = {f"layers.0.attn.{name}_proj.weight": weights(8, 4, seed=n) for n, name in enumerate("qkv")}
NORM = {"layers.0.norm.weight": weights(4, seed=9)}
TRAINER = {name: fingerprint(value) for name, value in (PARTS | NORM).items()}


def qkv(parts: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {"layers.0.attn.qkv_proj.weight": torch.cat(list(parts.values()))}


def test_a_fused_layer_is_the_sum_of_its_parts() -> None:
    assert compare(TRAINER, [engine(qkv(PARTS) | NORM)]) == Comparison(4, (), ())


def test_tensor_parallel_slices_and_copies() -> None:
    """Two workers: each has half of q, k, v and the whole norm; with one key/value head each has all of k and v."""
    halves = [{name: value.chunk(2)[n] for name, value in PARTS.items()} for n in range(2)]
    assert compare(TRAINER, [engine(qkv(half) | NORM) for half in halves]).wrong == ()
    copied = [PARTS | {(q := next(iter(PARTS))): PARTS[q].chunk(2)[n]} for n in range(2)]
    assert compare(TRAINER, [engine(qkv(part) | NORM, kv_copies=2) for part in copied]).wrong == ()
    assert compare(TRAINER, [engine(qkv(part) | NORM, kv_copies=1) for part in copied]).wrong != ()


def test_a_stale_tensor_is_named() -> None:
    stale = PARTS | {"layers.0.attn.k_proj.weight": weights(8, 4, seed=77)}
    comparison = compare(TRAINER, [engine(qkv(stale) | NORM)])
    assert comparison.wrong == tuple(PARTS)  # the layer they are fused into
    message = stale_weights([Comparison(4, (), ()), comparison])
    assert "engine 1" in message and "layers.0.attn.k_proj.weight" in message and "3 of 4" in message
    assert stale_weights([Comparison(4, (), ())]) is None


def test_a_tensor_that_the_engine_does_not_have_is_wrong_unless_it_goes_by_another_name() -> None:
    assert compare(TRAINER, [engine(qkv(PARTS))]).wrong == ("layers.0.norm.weight",)
    renamed = compare(TRAINER, [engine(qkv(PARTS) | {"model.norm_0": NORM["layers.0.norm.weight"]})])
    assert renamed.wrong == () and renamed.unchecked == ("model.norm_0",)
