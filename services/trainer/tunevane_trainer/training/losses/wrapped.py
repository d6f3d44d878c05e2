"""Losses of sentence-transformers and of pytorch-metric-learning as functions of vectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch


class OfColumns(torch.nn.Module):
    """A loss of sentence-transformers, which is given vectors that were computed already."""

    def __init__(self, make: Callable[..., Any], **options: Any) -> None:
        """Args: the class, and its arguments but for the model. Any: the losses have no common type."""
        super().__init__()
        self.inner = make(torch.nn.Identity(), **options)

    def forward(self, columns: Sequence[torch.Tensor], labels: torch.Tensor) -> torch.Tensor:
        """Returns the loss of columns `[b, d]`, labels or scores `[b]`."""
        value: torch.Tensor = self.inner.compute_loss_from_embeddings(list(columns), labels)
        return value


class OfLabels(torch.nn.Module):
    """A loss of pytorch-metric-learning, with a miner that chooses what it looks at."""

    def __init__(self, inner: torch.nn.Module, miner: torch.nn.Module | None) -> None:
        """Args: loss and miner; without a miner the loss looks at all pairs or triplets of a batch."""
        super().__init__()
        self.inner = inner
        self.miner = miner

    def forward(self, columns: Sequence[torch.Tensor], labels: torch.Tensor) -> torch.Tensor:
        """Returns the loss of one column `[b, d]` and its labels `[b]`."""
        (vectors,) = columns
        mined = None if self.miner is None else self.miner(vectors, labels)
        value: torch.Tensor = self.inner(vectors, labels, mined)
        return value
