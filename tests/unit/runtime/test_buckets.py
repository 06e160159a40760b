"""Buckets of weights: a plan worked out by hand, and every tensor back from the bytes as it went in."""

import math

import pytest
import torch

from openrlhf_prefix.runtime.weights.buckets import Tensor, described, plan

TENSORS = [
    Tensor("a", "bfloat16", [3]),  # 6 bytes, and 10 until the next multiple of 16
    Tensor("b", "float32", [2, 2]),  # 16
    Tensor("c", "bfloat16", [8]),  # 16
    Tensor("large", "bfloat16", [40]),  # 80: above the limit
    Tensor("d", "bfloat16", []),  # 2
]


def test_a_plan_by_hand() -> None:
    """48 bytes hold a (0-6), b (16-32) and c (32-48); the next is a bucket by itself."""
    buckets = plan(TENSORS, limit=48)
    assert [[tensor.name for tensor in bucket.tensors] for bucket in buckets] == [["a", "b", "c"], ["large"], ["d"]]
    assert [bucket.offsets for bucket in buckets] == [(0, 16, 32), (0,), (0,)]
    assert [bucket.size for bucket in buckets] == [48, 80, 2]
    assert [len(bucket.tensors) for bucket in plan(TENSORS, limit=47)] == [2, 1, 1, 1]
    assert plan([], limit=48) == []


@pytest.mark.parametrize("limit", [1, 40, 48, 10_000])
def test_what_is_packed_comes_out(limit: int) -> None:
    torch.manual_seed(0)
    values = {one.name: torch.randn(one.shape).to(getattr(torch, one.dtype)) for one in TENSORS}
    found = {}
    for bucket in plan(TENSORS, limit):
        buffer = bucket.pack([values[one.name].clone() for one in bucket.tensors], "cpu")
        assert buffer.dtype == torch.uint8 and len(buffer) == bucket.size
        found |= dict(bucket.unpack(buffer))
    assert list(found) == list(values)
    assert all(torch.equal(found[name], value) and found[name].dtype == value.dtype for name, value in values.items())


def test_there_are_as_many_buckets_as_bytes_ask_for() -> None:
    """None but the last could take its successor's first tensor."""
    tensors = [Tensor(str(n), "bfloat16", [n % 7 + 1, 8]) for n in range(200)]
    buckets = plan(tensors, limit=1024)
    for bucket, following in zip(buckets, buckets[1:], strict=False):
        assert bucket.size <= 1024 < bucket.size + following.tensors[0].bytes
    assert len(buckets) < 2 * math.ceil(sum(one.bytes for one in tensors) / 1024)


def test_a_parameter_of_zero_3_has_its_whole_shape() -> None:
    parameter = torch.nn.Parameter(torch.empty(0, dtype=torch.bfloat16))
    parameter.ds_shape = torch.Size([4, 2])
    assert described("w", parameter) == ("w", "bfloat16", [4, 2])


def test_a_weight_that_was_let_go_is_not_sent() -> None:
    """What ZeRO-3 leaves of a parameter that is not gathered has no elements."""
    (bucket,) = plan([Tensor("w", "bfloat16", [4, 2])], limit=48)
    with pytest.raises(RuntimeError, match="expand|size"):
        bucket.pack([torch.empty(0, dtype=torch.bfloat16)], "cpu")
    with pytest.raises(ValueError, match="shorter"):
        bucket.pack([], "cpu")
