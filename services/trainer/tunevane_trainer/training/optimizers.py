"""Optimizers that runs can name, and how the learning rate moves. Torch is imported when one is built."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from tunevane.errors import InvalidRequestError, Problem

if TYPE_CHECKING:
    import torch

_LAYER = re.compile(r"^(.*?)\b(?:layers?|blocks?|h)\.(\d+)\.")


@dataclass(frozen=True)
class AdamW:
    """AdamW: adaptive moments with decoupled weight decay (Loshchilov and Hutter, ICLR 2019)."""

    lr: float = 2e-5
    """Learning rate at its peak."""

    weight_decay: float = 0.01
    """Decay of weights, biases and norms left out."""

    warmup: float = 0.1
    """Share of all steps in which the learning rate rises from 0."""

    max_grad_norm: float | None = 1.0
    """Gradients are scaled down to this norm; None leaves them as they are."""

    schedule: Literal["linear", "cosine", "constant"] = "linear"
    """How the learning rate moves after that: to 0 in a line or half a cosine, or not at all."""

    layer_decay: float = 1.0
    """The learning rate of each layer is that of the layer above it times this; 1 trains all layers alike."""

    lr_factors: Mapping[str, object] = field(default_factory=dict)
    """What the learning rate is multiplied by, by the beginning of names of layers, for example
    `{"text.encoder": 0.05}`; the longest beginning that fits counts."""

    def problems(self) -> Iterator[Problem]:
        """Yields what is wrong with the options."""
        if not (math.isfinite(self.lr) and self.lr > 0):
            yield Problem("lr", f"must be positive and finite, not {self.lr}")
        if not (math.isfinite(self.weight_decay) and self.weight_decay >= 0):
            yield Problem("weight_decay", f"must be at least 0 and finite, not {self.weight_decay}")
        if not 0 <= self.warmup <= 1:
            yield Problem("warmup", f"must be in [0, 1], not {self.warmup}")
        if self.max_grad_norm is not None and not self.max_grad_norm > 0:
            yield Problem("max_grad_norm", f"must be positive, or None, not {self.max_grad_norm}")
        if not 0 < self.layer_decay <= 1:
            yield Problem("layer_decay", f"must be in (0, 1], not {self.layer_decay}")
        for name, factor in self.lr_factors.items():
            if not isinstance(factor, int | float) or not 0 <= factor < math.inf:
                yield Problem(f"lr_factors.{name}", f"must be a number of at least 0, not {factor!r}")

    def build(self, model: torch.nn.Module, loss: torch.nn.Module | None = None) -> torch.optim.Optimizer:
        """Makes the optimizer of a model's trainable parameters, and of those that its loss has.

        Raises:
            InvalidRequestError: A name in `lr_factors` begins the name of no layer.

        """
        from tunevane_trainer.training.adamw import WithLoss

        factors = self._factors([name for name, each in model.named_parameters() if each.requires_grad])
        groups: dict[tuple[float, bool], list[torch.nn.Parameter]] = {(1.0, True): [], (1.0, False): []}
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                groups.setdefault((factors[name], parameter.ndim > 1), []).append(parameter)
        described = [
            {"params": members, "weight_decay": self.weight_decay if decayed else 0.0, "factor": factor}
            for (factor, decayed), members in groups.items()
        ]
        own = [] if loss is None else [each for each in loss.parameters() if each.requires_grad]
        if own:
            described.append({"params": own, "weight_decay": 0.0, "factor": 1.0})
        return WithLoss(described, own, lr=self.lr)

    def _factors(self, names: Sequence[str]) -> dict[str, float]:
        """Says what the learning rate of each parameter is multiplied by."""
        from tunevane.nn.tuning import short_name

        short = {name: short_name(name) for name in names}
        idle = [prefix for prefix in self.lr_factors if not any(_begins(each, prefix) for each in short.values())]
        if idle:
            tops = ", ".join(sorted({each.partition(".")[0] for each in short.values()}))
            raise InvalidRequestError(
                [Problem("optimizer.lr_factors", f"'{idle[0]}' begins the name of no layer; names begin with: {tops}")]
            )
        depths = _depths(list(short.values())) if self.layer_decay < 1 else {}
        found = {}
        for name, each in short.items():
            fitting = max((prefix for prefix in self.lr_factors if _begins(each, prefix)), key=len, default=None)
            chosen = 1.0 if fitting is None else float(str(self.lr_factors[fitting]))
            found[name] = chosen * self.layer_decay ** depths.get(each, 0)
        return found

    def rate(self, step: int, total: int) -> float:
        """Returns the learning rate of a step, from 0, of `total`."""
        rising = max(int(self.warmup * total), 1)
        if step < rising:
            return self.lr * (step + 1) / rising
        if self.schedule == "constant":
            return self.lr
        left = max(total - step, 0) / max(total - rising, 1)
        if self.schedule == "cosine":
            return self.lr * (1 - math.cos(math.pi * left)) / 2
        return self.lr * max(total - step, 0) / max(total - rising, 1)


def _begins(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(prefix.rstrip(".") + ".")


def _depths(names: Sequence[str]) -> dict[str, int]:
    """Says how many layers lie above each parameter; what comes before a tower's first layer lies below all of them."""
    where: dict[str, tuple[str, int]] = {}
    heights: dict[str, int] = {}
    for name in names:
        found = _LAYER.match(name)
        if found is not None:
            where[name] = (found[1], int(found[2]))
            heights[found[1]] = max(heights.get(found[1], 0), int(found[2]) + 1)
    depths = {}
    for name in names:
        if name in where:
            tower, layer = where[name]
            depths[name] = heights[tower] - layer
        elif "embeddings" in name.split("."):
            # Those of its own tower, where there are several.
            own = [height for tower, height in heights.items() if tower.split(".")[0] == name.split(".")[0]]
            depths[name] = max(own or heights.values(), default=0) + 1
        else:
            depths[name] = 0
    return depths


OPTIMIZERS: dict[str, type[AdamW]] = {"adamw": AdamW}
