"""Measures mixes of two sets of weights, one after the other, with the model and the texts that are warm."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from tunevane.api.evaluator.v1 import evaluator_service_pb2 as wire
from tunevane.core.search_settings import metric_name
from tunevane.errors import EvaluationFailedError, InvalidRequestError, PreconditionError
from tunevane.nn import checkpoint
from tunevane.nn.blend import blend
from tunevane_evaluator.work import Work


def measure(work: Work, run: Callable[[Work], wire.EvaluationResult]) -> list[wire.BlendOutcome]:
    """Measures what the request mixes; afterwards the model holds the last mix.

    Args:
        work: The evaluation of the weights themselves.
        run: Evaluates once.

    Raises:
        EvaluationFailedError: The two sets of weights do not fit each other, or the model.

    """
    request = wire.EvaluateRequest()
    request.CopyFrom(work.request)
    request.plan.example_count = 0
    pretrained = checkpoint.read(work.request.blends.pretrained, work.store)
    finetuned = checkpoint.read(work.request.checkpoint, work.store)
    outcomes = []
    for alpha in work.request.blends.alphas:
        work.check()
        try:
            # Mixed on the CPU, as the weights of an artifact are, so that both are the same to the bit.
            checkpoint.fill(work.encoder.model, blend(pretrained, finetuned, alpha))
        except (InvalidRequestError, PreconditionError) as error:
            raise EvaluationFailedError(str(error)) from error
        result = run(replace(work, request=request, warnings=[]))
        outcome = wire.BlendOutcome(alpha=alpha, metrics=result.metrics)
        for way in result.search:
            for name, value in way.metrics.values.items():
                outcome.metrics.values[metric_name(name, way.name)] = value
        outcomes.append(outcome)
    return outcomes
