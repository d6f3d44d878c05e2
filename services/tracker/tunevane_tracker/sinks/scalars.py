"""The numbers in an event, by the names under which sinks show them. Pure."""

from __future__ import annotations

from tunevane.api.type.v1.event_pb2 import STAGE_AFTER, Event


def scalars(event: Event) -> dict[str, float]:
    """Lists the numbers of an event, unchanged; most kinds have none.

    `train/*` and `lr/*` belong to the event's step, everything else to its epoch.
    """
    kind = event.WhichOneof("kind")
    if kind == "step_reported":
        step = event.step_reported
        return {"train/loss": step.loss, "train/items_per_second": step.items_per_second, "lr/0": step.learning_rate}
    if kind == "epoch_ended":
        ended = event.epoch_ended
        found = {"epoch/train_loss": ended.train_loss, "epoch/seconds": ended.seconds}
        return found | ({"epoch/val_loss": ended.val_loss} if ended.HasField("val_loss") else {})
    if kind == "metrics_measured":
        # Before fine-tuning is where a metric's curve begins, at epoch 0; "after" has this epoch in the curve already.
        stage = "after" if event.metrics_measured.stage == STAGE_AFTER else "metrics"
        return {f"{stage}/{name}": value for name, value in sorted(event.metrics_measured.metrics.values.items())}
    if kind == "decision_made" and event.decision_made.HasField("value"):
        return {f"decisions/{event.decision_made.callback}": event.decision_made.value}
    return {}


def by_step(name: str) -> bool:
    """Tells whether a number belongs to a step, rather than to an epoch."""
    return name.startswith(("train/", "lr/"))


def seconds(event: Event) -> float:
    """Returns when an event happened, Unix seconds."""
    return event.event_time.seconds + event.event_time.nanos / 1e9
