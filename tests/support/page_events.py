"""Runs in every state that a page shows, as lists of events."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping, Sequence

from PIL import Image

from support.tracker_events import numbered
from tunevane.api.type.v1.event_pb2 import (
    SEVERITY_DEBUG,
    SEVERITY_ERROR,
    SEVERITY_INFO,
    SEVERITY_WARNING,
    STAGE_AFTER,
    STAGE_BEFORE,
    STAGE_EPOCH,
    VERDICT_IMPROVED,
    VERDICT_NOT_IMPROVED,
    VERDICT_STOP,
    DecisionMade,
    EpochEnded,
    Event,
    LogWritten,
    MetricsMeasured,
    RunEnded,
    RunStarted,
    StepReported,
)
from tunevane.api.type.v1.metric_pb2 import Interval, MetricSet

MRR = "minilm_reciprocal_rank"
CONFIG: Mapping[str, object] = {
    "name": "runs/emoji-names",
    "model": "minilm",
    "model_options": {"max_seq_length": 32},
    "loss": "multiple-negatives-ranking",
    "optimizer": "adamw",
    "optimizer_options": {"lr": 3e-5, "warmup": 0.1},
    "epochs": 8,
    "batch_size": 64,
    "seed": 0,
    "description": "Names of emoji in four languages",
    "dataset": "9f21c0a4be12",
    "callbacks": [
        {"name": "evaluation", "options": {"limit": 20, "gather_examples": True}},
        {"name": "best-model-checkpoint", "options": {"monitor": "reciprocal_rank"}},
        {"name": "early-stopping", "options": {"monitor": "reciprocal_rank", "patience": 2}},
    ],
}
BEFORE = {
    "average_precision": 0.1712,
    "dcg_at_k": 0.2304,
    "f1_score_at_k": 0.0482,
    "hit_at_k": 0.3913,
    "ndcg@10": 0.2041,
    "precision_at_k": 0.0259,
    "recall_at_k": 0.3905,
    "reciprocal_rank": 0.1780,
}
GAINS = (0.125, 0.167, 0.175, 0.188, 0.186, 0.1865)
"""How much each metric has gained since before, after each epoch, in units of reciprocal rank."""


def values(epoch: int, names: Sequence[str] = tuple(BEFORE), gain: float = 1.0) -> dict[str, float]:
    """Returns the metrics after an epoch; 0 is before fine-tuning."""
    grown = GAINS[epoch - 1] * gain if epoch else 0.0
    return {f"minilm_{name}": round(BEFORE.get(name, 0.3) * (1 + grown * 5), 6) for name in names}


def best_epoch(names: Sequence[str], gain: float, until: int = len(GAINS)) -> int:
    """Returns the epoch with the highest reciprocal rank among the first."""
    return max(range(1, until + 1), key=lambda number: values(number, names, gain).get(MRR, 0.0))


def measured(stage: int, epoch: int, found: Mapping[str, float], examples: bytes = b"", sure: bool = True) -> Event:
    """Makes the event of metrics, with intervals unless they describe the model before fine-tuning."""
    before = values(0, [name.removeprefix("minilm_") for name in found])
    intervals = {
        name: Interval(low=value - before[name] - 0.02, high=value - before[name] + 0.02, confidence=0.95)
        for name, value in found.items()
        if sure and stage != STAGE_BEFORE
    }
    kind = MetricsMeasured(
        stage=stage,  # type: ignore[arg-type]  # one of the enum's numbers
        metrics=MetricSet(values=found),
        intervals=intervals,
        shown_examples=examples,
    )
    return Event(epoch=epoch, metrics_measured=kind)


def picture(colour: str) -> str:
    """Returns a small picture of one colour as a data URI."""
    content = io.BytesIO()
    Image.new("RGB", (48, 32), colour).save(content, "PNG")
    return "data:image/png;base64," + base64.b64encode(content.getvalue()).decode()


def examples(rank: int, texts: Sequence[str] = ("Katze", "شجرة", "a slice of 🍕"), pictures: bool = False) -> bytes:
    """Makes example results in which the relevant document is at a rank."""
    queries = []
    for text in texts:
        results = [
            {"id": f"d{place}", "text": f"document {place} of {text}", "score": 0.9 - place / 20, "relevant": False}
            for place in range(1, 7)
        ]
        results[rank - 1]["relevant"] = True
        if pictures:
            for place, result in enumerate(results):
                result["image"] = picture(["teal", "orange", "purple", "olive", "navy", "brown"][place])
        extra = {"image": picture("crimson")} if pictures else {}
        queries.append({"id": text, "text": text, "results": results, **extra})
    return json.dumps({"minilm": {"queries": queries}}).encode()


def log(text: str, severity: int = SEVERITY_INFO) -> Event:
    """Makes a line of the log."""
    return Event(log_written=LogWritten(severity=severity, text=text))  # type: ignore[arg-type]  # as above


def start(epochs: int = 8, names: Sequence[str] = tuple(BEFORE), pictures: bool = False) -> list[Event]:
    """Begins a run and measures the model as it is."""
    started = Event(run_started=RunStarted(epochs=epochs, batches_per_epoch=48))
    return [
        log("Preparing the run on cpu", SEVERITY_DEBUG),
        started,
        measured(STAGE_BEFORE, 0, values(0, names), examples(4, pictures=pictures)),
    ]


def epoch(number: int, names: Sequence[str] = tuple(BEFORE), gain: float = 1.0, sure: bool = True) -> list[Event]:
    """Trains, measures and decides; with a gain epoch 4 is the best, and training stops after epoch 6."""
    steps = [
        Event(
            epoch=number,
            step=(number - 1) * 48 + batch,
            step_reported=StepReported(
                batch=batch,
                loss=3.2 / (number + batch / 48) + (batch % 7) / 40,
                items_per_second=812,
                learning_rate=3e-5,
            ),
        )
        for batch in range(4, 49, 4)
    ]
    found = values(number, names, gain)
    value = found.get(MRR)
    best = best_epoch(names, gain, number) == number
    stops = VERDICT_STOP if number == 6 else VERDICT_IMPROVED if best else VERDICT_NOT_IMPROVED
    held = 0 if number == 1 else best_epoch(names, gain, number - 1)
    previous = f"{values(held, names, gain).get(MRR, 0):.3f}" if held else "-inf"
    words = f"Model improved from {previous} to {value or 0:.3f}!" if best else "Model did not improve"
    decided = [
        DecisionMade(
            callback="best-model-checkpoint",
            verdict=VERDICT_IMPROVED if best else VERDICT_NOT_IMPROVED,
            reason=words,
            monitor=MRR,
            value=value,
        ),
        DecisionMade(
            callback="early-stopping/reciprocal_rank",
            verdict=stops,
            reason="Training is stopping, no improvement for 2 epochs" if number == 6 else "",
            monitor=MRR,
            value=value,
            patience_left=2 if best else 6 - number,
        ),
    ]
    ended = EpochEnded(train_loss=3.0 / (number + 0.5), val_loss=3.4 / (number + 0.7), batches=48, seconds=20.0)
    return [
        *steps,
        Event(epoch=number, step=number * 48, epoch_ended=ended),
        measured(STAGE_EPOCH, number, found, sure=sure),
        *(Event(epoch=number, step=number * 48, decision_made=each) for each in decided),
        log(words),
    ]


def end(
    names: Sequence[str] = tuple(BEFORE), pictures: bool = False, gain: float = 1.0, sure: bool = True
) -> list[Event]:
    """Measures what the user gets, and hands it over."""
    return [
        log(f"The artifact holds the weights of epoch {best_epoch(names, gain)}, the best of 6"),
        measured(STAGE_AFTER, 6, values(best_epoch(names, gain), names, gain), examples(1, pictures=pictures), sure),
        log("3 of 800 queries have no relevant document in the index and score 0", SEVERITY_WARNING),
        log("Finished 🚀"),
        Event(epoch=6, run_ended=RunEnded(artifact_epoch=best_epoch(names, gain))),
    ]


def done(
    names: Sequence[str] = tuple(BEFORE), pictures: bool = False, gain: float = 1.0, sure: bool = True
) -> list[Event]:
    """Makes a run that succeeded."""
    epochs = [event for number in range(1, 7) for event in epoch(number, names, gain, sure)]
    return numbered([*start(names=names, pictures=pictures), *epochs, *end(names, pictures, gain, sure)])


def running(epochs: int = 3) -> list[Event]:
    """Makes a run in the middle of an epoch."""
    made = [event for number in range(1, epochs + 1) for event in epoch(number)]
    return numbered([*start(), *made, *epoch(epochs + 1)[:5]])


def failed() -> list[Event]:
    """Makes a run that failed in its second epoch."""
    reason = "the device ran out of memory; lower batch_size or max_seq_length"
    end_ = [log(reason, SEVERITY_ERROR), Event(epoch=2, run_ended=RunEnded(failure_reason=reason))]
    return numbered([*start(), *epoch(1), *epoch(2)[:3], *end_])
