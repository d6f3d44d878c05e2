"""Mixes of weights: the specified numbers, bit-exact ends, and nothing but floating-point tensors is mixed."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tunevane.errors import InvalidRequestError
from tunevane.nn.blend import blend

CASES = json.loads((Path(__file__).parents[1] / "core" / "cases.json").read_text(encoding="utf-8"))
FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
OTHERS = (torch.int64, torch.int32, torch.uint8, torch.bool)


@pytest.mark.parametrize("case", CASES["wise_ft"])
def test_wise_ft_gives_the_specified_numbers(case: dict[str, Any]) -> None:
    one = {"w": torch.tensor(case["pretrained"], dtype=torch.float32)}
    two = {"w": torch.tensor(case["finetuned"], dtype=torch.float32)}
    assert blend(one, two, case["alpha"])["w"].tolist() == pytest.approx(case["expect"])


def bits(tensor: torch.Tensor) -> bytes:
    return bytes(tensor.contiguous().view(-1).view(torch.uint8).numpy())


@st.composite
def tensors(draw: st.DrawFn) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Two state dicts of one shape; any bits, NaN, infinities and negative zeros among them."""
    one: dict[str, torch.Tensor] = {}
    two: dict[str, torch.Tensor] = {}
    for number in range(draw(st.integers(1, 4))):
        dtype = draw(st.sampled_from(FLOATS + OTHERS))
        size = draw(st.integers(0, 5))
        for weights in (one, two):
            most = 1 if dtype is torch.bool else 255
            raw = draw(st.lists(st.integers(0, most), min_size=size * dtype.itemsize, max_size=size * dtype.itemsize))
            weights[f"t{number}"] = torch.tensor(raw, dtype=torch.uint8).view(dtype)
    return one, two


@given(tensors(), st.floats(0, 1))
@settings(deadline=None, max_examples=200)
def test_the_ends_are_copies_to_the_bit_and_other_tensors_stay(
    pair: tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]], alpha: float
) -> None:
    pretrained, finetuned = pair
    for share, source in ((0, pretrained), (0.0, pretrained), (1, finetuned), (1.0, finetuned)):
        for name, tensor in blend(pretrained, finetuned, share).items():
            expected = source[name] if tensor.is_floating_point() else finetuned[name]
            assert bits(tensor) == bits(expected)
    mixed = blend(pretrained, finetuned, alpha)
    assert list(mixed) == list(finetuned)
    for name, tensor in mixed.items():
        assert (tensor.dtype, tensor.shape) == (finetuned[name].dtype, finetuned[name].shape)
        assert tensor.numel() == 0 or tensor.data_ptr() != finetuned[name].data_ptr()
        if not tensor.is_floating_point():
            assert bits(tensor) == bits(finetuned[name])


def test_different_models_are_refused_with_what_differs() -> None:
    with pytest.raises(InvalidRequestError, match="b"):
        blend({"a": torch.ones(1)}, {"a": torch.ones(1), "b": torch.ones(1)}, 0.5)
    with pytest.raises(InvalidRequestError, match="a"):
        blend({"a": torch.ones(1)}, {"a": torch.ones(2)}, 0.5)
