"""How batches are drawn and computed: options that every run has, whatever its model and loss."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from tunevane.errors import Problem

Sampler = Literal["auto", "shuffle", "per-label", "no-duplicates"]


@dataclass(frozen=True)
class TrainingOptions:
    """Options of the training loop."""

    sampler: Sampler = "auto"
    """How rows become batches: `shuffle`; `per-label`, some of each label together; `no-duplicates`, pairs that are no
    false negatives of each other. `auto` takes `per-label` for labels, `no-duplicates` for pairs, else `shuffle`."""

    per_label: int = 4
    """Contents of a label that stand together, with the sampler `per-label`."""

    micro_batch_size: int | Literal["auto"] = "auto"
    """Rows that are computed at once. Gradients add up over the parts of a batch, and the loss still sees all of it, so
    results stay the same but for rounding. `auto` takes the whole batch, and halves while the device lacks memory."""

    gradient_checkpointing: bool = False
    """Whether activations are computed again in the backward pass instead of kept: less memory, a third more work."""

    def problems(self) -> Iterator[Problem]:
        """Yields what is wrong with the options."""
        if self.per_label < 1:
            yield Problem("per_label", f"must be at least 1, not {self.per_label}")
        if self.micro_batch_size != "auto" and self.micro_batch_size < 1:
            yield Problem("micro_batch_size", f"must be at least 1 or 'auto', not {self.micro_batch_size}")
