"""Asks the callbacks that measure the model themselves, in the worker, with the weights at hand."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from tunevane.callback.base import MeasuresModel
from tunevane.callback.schedule import Schedule
from tunevane.errors import EvaluationFailedError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


def values(schedule: Schedule, model_name: str, model: SentenceTransformer) -> dict[str, float]:
    """Returns what the callbacks measure, by full name, without changing model or random generators.

    Raises:
        EvaluationFailedError: A callback gives other names than it announced, or a value that is not finite.

    """
    found: dict[str, float] = {}
    for callback in schedule.measurers:
        if not isinstance(callback, MeasuresModel):
            continue
        training = model.training
        # What a callback draws must not change what training draws next.
        with torch.no_grad(), torch.random.fork_rng():
            model.eval()
            measured = callback.measure(model)
        model.train(training)
        expected = callback.measured(model_name)
        if sorted(measured) != sorted(expected):
            raise EvaluationFailedError(
                f"'{callback.key}' announced {', '.join(expected)} and gave {', '.join(measured)};"
                " let it give what it announces"
            )
        for name in expected:
            if not math.isfinite(measured[name]):
                raise EvaluationFailedError(f"'{callback.key}' gave {measured[name]} for {name}; values must be finite")
            found[name] = float(measured[name])
    return found
