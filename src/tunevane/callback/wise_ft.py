"""WiSEFTCallback: mixes the pre-trained weights back in at the end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

from tunevane.callback.base import Callback
from tunevane.errors import Problem


@dataclass(frozen=True)
class WiSEFTCallback(Callback):
    """Weight-space ensemble: `(1 - alpha) * pretrained + alpha * finetuned` for every floating-point tensor.

    Integer and boolean tensors are taken from the fine-tuned model untouched; alpha 0 and 1 are bit-exact
    copies. With `alpha="sweep"` the run's evaluation measures eleven mixes, and the best one is kept.
    Source: Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022.
    """

    name: ClassVar[str] = "wise-ft"

    alpha: float | Literal["sweep"] = 0.4
    """Share of the fine-tuned weights, in [0, 1]; `sweep` takes the best of 0, 0.1 … 1."""

    def problems(self) -> Iterator[Problem]:
        """Yields what is wrong with the options."""
        if not isinstance(self.alpha, str) and not 0 <= self.alpha <= 1:
            yield Problem("alpha", f"must be in [0, 1], or 'sweep', not {self.alpha}")
