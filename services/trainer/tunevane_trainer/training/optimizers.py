"""Optimizers that runs can name, and how the learning rate moves. Torch is imported when one is built."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class AdamW:
    """AdamW: adaptive moments with decoupled weight decay (Loshchilov and Hutter, ICLR 2019)."""

    lr: float = 2e-5
    """Learning rate at its peak."""

    weight_decay: float = 0.01
    """Decay of weights, biases and norms left out."""

    warmup: float = 0.1
    """Share of all steps in which the learning rate rises from 0; it falls linearly to 0 afterwards."""

    max_grad_norm: float = 1.0
    """Gradients are scaled down to this norm."""

    def build(self, model: torch.nn.Module) -> torch.optim.Optimizer:
        """Makes the optimizer of a model's trainable parameters."""
        import torch

        decayed = [p for p in model.parameters() if p.requires_grad and p.ndim > 1]
        plain = [p for p in model.parameters() if p.requires_grad and p.ndim <= 1]
        groups = [{"params": decayed, "weight_decay": self.weight_decay}, {"params": plain, "weight_decay": 0.0}]
        return torch.optim.AdamW(groups, lr=self.lr)

    def rate(self, step: int, total: int) -> float:
        """Returns the learning rate of a step, from 0, of `total`."""
        rising = max(int(self.warmup * total), 1)
        if step < rising:
            return self.lr * (step + 1) / rising
        return self.lr * max(total - step, 0) / max(total - rising, 1)


OPTIMIZERS: dict[str, type[AdamW]] = {"adamw": AdamW}
