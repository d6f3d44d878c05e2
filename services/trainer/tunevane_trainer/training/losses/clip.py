"""The loss of CLIP, with a temperature that is learned."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch.nn import functional

MAX_SCALE = 100.0


class ClipLoss(torch.nn.Module):
    """Cross entropy of similarities over rows and over columns, averaged.

    Source: Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021, fig. 3.
    """

    def __init__(self, temperature: float, *, learn_temperature: bool) -> None:
        """Args: what similarities are divided by at first, and whether that is learned."""
        super().__init__()
        self.log_scale = torch.nn.Parameter(torch.tensor(-math.log(temperature)), requires_grad=learn_temperature)

    def forward(self, columns: Sequence[torch.Tensor], labels: torch.Tensor) -> torch.Tensor:
        """Returns the loss of two matrices of vectors, `[b, d]` each; row i of one belongs to row i of the other."""
        first, second = (functional.normalize(column, dim=1) for column in columns)
        logits = first @ second.T * self.log_scale.exp().clamp(max=MAX_SCALE)
        own = torch.arange(len(logits), device=logits.device)
        return (functional.cross_entropy(logits, own) + functional.cross_entropy(logits.T, own)) / 2
