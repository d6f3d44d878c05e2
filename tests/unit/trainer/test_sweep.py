"""The share of fine-tuned weights is the best by what chooses the best model, and of equals the largest."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from tunevane.api.evaluator.v1 import evaluator_service_pb2 as wire
from tunevane.api.trainer.v1 import run_pb2
from tunevane.api.type.v1 import blob_pb2, component_pb2, metric_pb2
from tunevane.callback import BestModelCheckpoint, EvaluationCallback
from tunevane.callback.base import Callback
from tunevane.callback.schedule import Schedule
from tunevane.core import bundles
from tunevane.errors import EvaluationFailedError
from tunevane.storage.blobs import BlobStore
from tunevane_trainer.training import sweep
from tunevane_trainer.training.measure import Meter
from tunevane_trainer.training.patience import Moment

BUNDLE = bundles.make({"items.jsonl": blob_pb2.BlobRef(blake3="a" * 64, size_bytes=3)})


class Evaluates:
    """Gives each mix the values that it is told."""

    def __init__(self, values: Mapping[str, list[float]] | None) -> None:
        self.values = values
        self.requests: list[wire.EvaluateRequest] = []

    def evaluate(
        self, request: wire.EvaluateRequest, name: str, timeout_seconds: float, moment: Moment
    ) -> wire.EvaluationResult:
        self.requests.append(request)
        if self.values is None:
            raise EvaluationFailedError("no")
        blends = [
            wire.BlendOutcome(
                alpha=alpha,
                metrics=metric_pb2.MetricSet(values={name: values[number] for name, values in self.values.items()}),
            )
            for number, alpha in enumerate(request.blends.alphas)
        ]
        return wire.EvaluationResult(blends=blends)


def choose(tmp_path: Path, evaluates: Evaluates, *others: Callback, **options: object) -> sweep.Sweep:
    callback = EvaluationCallback(query_data=BUNDLE, metrics=("mrr@10", "hit@10"), **options)  # type: ignore[arg-type]
    component = component_pb2.Component(name="evaluation", attachments={"query_data": BUNDLE})
    run = run_pb2.Run(name="runs/r", spec=run_pb2.RunSpec(model=component_pb2.Component(name="minilm")))
    meter = Meter(evaluates, BlobStore(tmp_path), run, [(callback, component)])
    schedule = Schedule([callback, *others], "minilm", with_val_loss=False)
    return sweep.best_alpha(meter, schedule, BUNDLE, BUNDLE, Moment(3, 30))


RISING = [n / 100 for n in range(11)]
FALLING = RISING[::-1]


def test_without_a_best_model_callback_the_first_metric_decides(tmp_path: Path) -> None:
    evaluates = Evaluates({"mrr@10": [*RISING[:8], 0.05, 0.07, 0.01], "hit@10": FALLING})
    found = choose(tmp_path, evaluates)
    assert (found.alpha, found.metric, found.values[0.7]) == (0.9, "minilm_mrr@10", 0.07)
    (request,) = evaluates.requests
    assert list(request.blends.alphas) == [n / 10 for n in range(11)]
    assert (request.blends.alphas[0], request.blends.alphas[-1]) == (0.0, 1.0)


@pytest.mark.parametrize(("mode", "best"), [("auto", 0.0), ("min", 1.0)])
def test_the_best_model_callbacks_metric_and_direction_decide(tmp_path: Path, mode: str, best: float) -> None:
    evaluates = Evaluates({"mrr@10": RISING, "hit@10": FALLING})
    selector = BestModelCheckpoint(monitor="hit@10", mode=mode)  # type: ignore[arg-type]  # one of the literals
    assert choose(tmp_path, evaluates, selector).alpha == best


def test_a_loss_as_monitor_leaves_the_choice_to_the_first_metric(tmp_path: Path) -> None:
    evaluates = Evaluates({"mrr@10": FALLING, "hit@10": RISING})
    assert choose(tmp_path, evaluates, BestModelCheckpoint(monitor="loss")).alpha == 0.0


def test_of_equals_the_largest_share_is_kept(tmp_path: Path) -> None:
    found = choose(tmp_path, Evaluates({"mrr@10": [0.5] * 11, "hit@10": RISING}))
    assert found.alpha == 1.0
    assert found.lines()[-1] == "alpha 1 is the best of 11 by minilm_mrr@10"
    assert found.lines()[3] == "alpha 0.3: minilm_mrr@10 0.50000"


def test_a_failed_sweep_is_skipped_where_the_callback_says_so(tmp_path: Path) -> None:
    with pytest.raises(EvaluationFailedError):
        choose(tmp_path, Evaluates(None))
    found = choose(tmp_path, Evaluates(None), on_failure="skip")
    assert found.alpha == 1.0
    assert "was skipped" in found.lines()[0]
