"""Which device computes, and how its arithmetic is chosen."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

from tunevane.errors import InvalidRequestError


def choose(name: str) -> torch.device:
    """Returns the device that a name stands for.

    Args:
        name: `auto` (or empty), `cpu`, `cuda`, or `cuda:<n>`.

    Raises:
        InvalidRequestError: The name is unknown, or there is no such device here.

    """
    if name in ("", "auto"):
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InvalidRequestError(f"unknown device '{name}'; known are: auto, cpu, cuda") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InvalidRequestError(f"there is no CUDA device here for '{name}'; use auto or cpu")
    return device


def arithmetic(device: torch.device, *, bf16: bool) -> AbstractContextManager[object]:
    """Returns the context in which a forward pass runs: bfloat16 autocast, or nothing."""
    return torch.autocast(device.type, dtype=torch.bfloat16) if bf16 else nullcontext()
