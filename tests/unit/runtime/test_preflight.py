"""Versions that train on wrong gradients are refused before anything starts."""

import pytest

from openrlhf_prefix.errors import UserError
from openrlhf_prefix.runtime.driver.preflight import check_deepspeed


@pytest.mark.parametrize("version", ["0.18.9", "0.16.3", "0.9.10"])
def test_deepspeed_before_0_19_is_refused(version: str) -> None:
    with pytest.raises(UserError, match=f"deepspeed {version} drops micro-batches .* install 0.19.0 or later"):
        check_deepspeed(version)


@pytest.mark.parametrize("version", ["0.19.0", "0.19.6", "0.20.1", "1.0"])
def test_later_ones_pass(version: str) -> None:
    check_deepspeed(version)
