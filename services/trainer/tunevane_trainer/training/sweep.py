"""Finds the share of fine-tuned weights that measures best, in one evaluation of many mixes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tunevane.api.evaluator.v1 import evaluator_service_pb2 as wire
from tunevane.api.type.v1 import blob_pb2
from tunevane.callback import BestModelCheckpoint
from tunevane.callback.schedule import Schedule
from tunevane.core.monitor import Mode, direction, improves, resolve, worst
from tunevane.errors import EvaluationFailedError, UnavailableError
from tunevane_trainer.training.measure import Evaluation, Meter
from tunevane_trainer.training.patience import Moment

ALPHAS = tuple(number / 10 for number in range(11))
"""Shares of the fine-tuned weights that are tried."""


@dataclass(frozen=True)
class Sweep:
    """What came of trying."""

    alpha: float
    """The share that measures best; of equal ones the largest."""

    metric: str
    """Full name of the metric that it was chosen by."""

    values: dict[float, float]
    """The metric by share; empty where the evaluation failed and its callback says to go on."""

    def lines(self) -> list[str]:
        """Returns what the log says of it."""
        if not self.values:
            return ["The evaluation of the mixes failed and was skipped, so the fine-tuned weights stay as they are"]
        tried = [f"alpha {alpha:g}: {self.metric} {value:.5f}" for alpha, value in self.values.items()]
        return [*tried, f"alpha {self.alpha:g} is the best of {len(self.values)} by {self.metric}"]


def best_alpha(
    meter: Meter, schedule: Schedule, weights: blob_pb2.Bundle, pretrained: blob_pb2.Bundle, moment: Moment
) -> Sweep:
    """Measures mixes of two sets of weights, and chooses by what the best model is chosen by.

    Args:
        meter: The run's evaluations, at least one.
        schedule: The run's callbacks. Where no best-model callback monitors a retrieval metric, the first metric
            of the first evaluation decides.
        weights: The fine-tuned weights.
        pretrained: The weights before fine-tuning, of the same names and shapes.
        moment: When in the run it is.

    Raises:
        EvaluationFailedError: The evaluation failed.
        UnavailableError: The evaluator stayed away for longer than the callback allows.

    """
    evaluation, plain, metric, mode = _criterion(meter, schedule)
    request = meter.request(evaluation, weights, moment)
    request.blends.CopyFrom(wire.BlendSweep(pretrained=pretrained, alphas=ALPHAS))
    try:
        outcomes = meter.evaluate(evaluation, request, moment).blends
    except (EvaluationFailedError, UnavailableError):
        if evaluation[0].on_failure == "fail":
            raise
        return Sweep(1.0, metric, {})
    values = {alpha: outcome.metrics.values[plain] for alpha, outcome in zip(ALPHAS, outcomes, strict=True)}
    best, reference = ALPHAS[-1], worst(mode)
    for alpha in reversed(ALPHAS):
        if improves(values[alpha], reference, mode):
            best, reference = alpha, values[alpha]
    return Sweep(best, metric, values)


def _criterion(meter: Meter, schedule: Schedule) -> tuple[Evaluation, str, str, Mode]:
    """Returns who measures, the metric by its plain and its full name, and which way is better."""
    plain_of = {full: (pair, plain) for pair in meter.evaluations for plain, full in meter.names(pair[0]).items()}
    metric = next(iter(plain_of))
    mode: Mode | Literal["auto"] = "auto"
    selector = schedule.find(BestModelCheckpoint)
    if isinstance(selector, BestModelCheckpoint):
        monitored = resolve(selector.monitor, schedule.measured)
        if monitored in plain_of:
            metric, mode = monitored, selector.mode
    evaluation, plain = plain_of[metric]
    return evaluation, plain, metric, direction(metric) if mode == "auto" else mode
