"""Names of devices."""

from __future__ import annotations

import pytest
import torch

from tunevane.errors import InvalidRequestError
from tunevane.nn import device


def test_the_default_is_the_best_there_is() -> None:
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    assert {device.choose(name).type for name in ("", "auto")} == {expected}
    assert device.choose("cpu") == torch.device("cpu")


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match="unknown device 'toaster'; known are: auto, cpu, cuda"):
        device.choose("toaster")


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens without CUDA")
def test_cuda_that_is_not_there_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match="no CUDA device here"):
        device.choose("cuda")


def test_bfloat16_is_chosen_by_the_context() -> None:
    cpu = torch.device("cpu")
    weights = torch.ones(2, 2)
    with device.arithmetic(cpu, bf16=True):
        assert (weights @ weights).dtype == torch.bfloat16
    with device.arithmetic(cpu, bf16=False):
        assert (weights @ weights).dtype == torch.float32
