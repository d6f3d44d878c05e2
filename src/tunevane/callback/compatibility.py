"""Checks the callbacks of a run against each other: everything that does not fit, with what would work."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from tunevane.callback.base import Callback, Decides, KnowsNoise, Measures, Refines
from tunevane.callback.best_model import BestModelCheckpoint
from tunevane.core.monitor import resolve
from tunevane.errors import Problem


def losses(*, with_val_loss: bool) -> tuple[str, ...]:
    """Names the losses that a run has."""
    return ("train_loss", "val_loss") if with_val_loss else ("train_loss",)


def measured(callbacks: Sequence[Callback | None], model_name: str, loss_names: Sequence[str]) -> list[str]:
    """Lists the full names of everything that the run measures at an epoch end, losses first."""
    names = list(loss_names)
    given: Sequence[object] = callbacks  # what they can do is told by protocols, whatever their class
    for callback in given:
        if isinstance(callback, Measures):
            names.extend(callback.measured(model_name))
    return names


def problems(callbacks: Sequence[Callback | None], model_name: str, loss_names: Sequence[str]) -> Iterator[Problem]:
    """Yields what does not fit together.

    Args:
        callbacks: In the order that they were given; None where one could not be made. What such a one might have
            measured is not complained about.
        model_name: What metric names begin with.
        loss_names: The losses that the run has.

    """
    yield from _clashes(callbacks, model_name, loss_names)
    names = measured(callbacks, model_name, loss_names)
    given: Sequence[object] = callbacks  # what they can do is told by protocols, whatever their class
    for position, callback in enumerate(given):
        if not isinstance(callback, Decides):
            continue
        field = f"callbacks[{position}]"
        try:
            metric = resolve(callback.monitor, names)
        except ValueError as error:
            if None not in callbacks or callback.monitor == "val_loss":
                hint = "; give eval_data, or monitor one of those" if callback.monitor == "val_loss" else ""
                yield Problem(f"{field}.monitor", f"{error}{hint}")
            continue
        if _confidence(callback) is not None and metric in loss_names:
            yield Problem(f"{field}.confidence", _without_queries(metric, names[len(loss_names) :]))


def _clashes(callbacks: Sequence[Callback | None], model_name: str, loss_names: Sequence[str]) -> Iterator[Problem]:
    seen: dict[str, int] = {}
    twice = False
    for position, callback in enumerate(callbacks):
        if callback is None:
            continue
        first = seen.setdefault(callback.key, position)
        if first != position:
            twice = True
            hint = "; give each evaluation its own caption" if isinstance(callback, Measures) else ""
            yield Problem(f"callbacks[{position}]", f"'{callback.key}' is there already, at {first}{hint}")
    for name, times in Counter(measured(callbacks, model_name, loss_names)).items():
        if times > 1 and not twice:
            yield Problem("callbacks", f"{times} callbacks measure '{name}'; give each evaluation its own caption")
    for kind in (BestModelCheckpoint, Refines):
        if sum(isinstance(callback, kind) for callback in callbacks) > 1:
            word = "BestModelCheckpoint" if kind is BestModelCheckpoint else "WiSEFTCallback"
            yield Problem("callbacks", f"a run can have one {word}, and this one has several")


def _confidence(callback: object) -> float | None:
    return callback.confidence if isinstance(callback, KnowsNoise) else None


def _without_queries(loss: str, metrics: Sequence[str]) -> str:
    offer = f"monitor one of: {', '.join(metrics)}" if metrics else "add an EvaluationCallback and monitor its metric"
    return f"needs a retrieval metric, which has a value for every query, and '{loss}' has none; {offer}"
