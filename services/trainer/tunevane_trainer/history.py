"""A run's state as a fold over its events: what each event does to the run record."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tunevane.api.trainer.v1 import run_pb2
from tunevane.api.type.v1 import blob_pb2, event_pb2
from tunevane.callback import BestModelCheckpoint
from tunevane.core import bundles

ENDED = frozenset({run_pb2.RUN_STATE_SUCCEEDED, run_pb2.RUN_STATE_FAILED, run_pb2.RUN_STATE_CANCELLED})

BEST = BestModelCheckpoint.name
"""Key of the callback that says which weights are the best so far."""

COMMITTED_KINDS = frozenset({"epoch_ended", "metrics_measured", "decision_made", "checkpoint_saved"})
"""The kinds of events that the rest of a run depends on."""


def has_ended(run: run_pb2.Run) -> bool:
    """Tells whether a run is over."""
    return run.state in ENDED


def apply(run: run_pb2.Run, event: event_pb2.Event) -> None:
    """Changes the run record as one event says."""
    run.last_sequence = event.sequence
    kind = event.WhichOneof("kind")
    if kind == "run_started":
        if run.state != run_pb2.RUN_STATE_CANCELLING:
            run.state = run_pb2.RUN_STATE_RUNNING
        if not run.HasField("start_time"):
            run.start_time.CopyFrom(event.event_time)
    elif kind == "run_ended":
        _end(run, event)
    elif kind == "metrics_measured":
        _keep(run, event.metrics_measured)


def _keep(run: run_pb2.Run, measured: event_pb2.MetricsMeasured) -> None:
    if measured.stage == event_pb2.STAGE_BEFORE:
        run.result.before.CopyFrom(measured.metrics)
        if measured.HasField("examples"):
            run.result.examples_before.CopyFrom(measured.examples)
    elif measured.stage == event_pb2.STAGE_AFTER:
        run.result.after.CopyFrom(measured.metrics)
        if measured.HasField("examples"):
            run.result.examples_after.CopyFrom(measured.examples)


def _end(run: run_pb2.Run, event: event_pb2.Event) -> None:
    ended = event.run_ended
    run.end_time.CopyFrom(event.event_time)
    if ended.cancelled:
        run.state = run_pb2.RUN_STATE_CANCELLED
    elif ended.failure_reason:
        run.state = run_pb2.RUN_STATE_FAILED
        run.failure_reason = ended.failure_reason
    else:
        run.state = run_pb2.RUN_STATE_SUCCEEDED
        run.result.artifact.CopyFrom(ended.artifact)
        run.result.artifact_epoch = ended.artifact_epoch


@dataclass(frozen=True)
class Pinned:
    """Files that a run keeps, by the role they have in it; a role's new files replace its old ones."""

    role: str
    """`last`, `epoch/<n>`, `best`, `candidate/<n>`, `artifact`, `before`, `after` or `spec`."""

    blobs: tuple[str, ...]
    """Digests."""


WeightsOf = Callable[[int], blob_pb2.Bundle | None]
"""Finds the weights of an epoch that was saved earlier."""


def pins(events: Iterable[event_pb2.Event], keep_epochs: int, weights_of: WeightsOf) -> list[Pinned]:
    """Tells what one committed batch of events makes the run keep.

    Args:
        events: The batch.
        keep_epochs: Checkpoints that are kept, counted from the last.
        weights_of: Finds the weights of an epoch whose decisions come later than its checkpoint.

    """
    batch = list(events)
    kept: list[Pinned] = []
    for event in batch:
        kind = event.WhichOneof("kind")
        if kind == "checkpoint_saved":
            saved = event.checkpoint_saved
            blobs = _digests(saved.weights, saved.training_state)
            if saved.batch:
                kept.append(Pinned("within", blobs))
                continue
            kept.append(Pinned("within", ()))
            kept.append(Pinned(f"epoch/{event.epoch % max(keep_epochs, 1)}", blobs))
        elif kind == "metrics_measured" and event.metrics_measured.HasField("examples"):
            stage = {event_pb2.STAGE_BEFORE: "before", event_pb2.STAGE_AFTER: "after"}
            role = stage.get(event.metrics_measured.stage, "examples")
            kept.append(Pinned(role, (event.metrics_measured.examples.blake3,)))
        elif kind == "run_ended" and event.run_ended.HasField("artifact"):
            kept.append(Pinned("artifact", _digests(event.run_ended.artifact)))
    saves = [event for event in batch if event.HasField("checkpoint_saved") and not event.checkpoint_saved.batch]
    own = {event.epoch: event.checkpoint_saved.weights for event in saves}
    for event in batch:
        made = event.decision_made if event.HasField("decision_made") else None
        if made is None or made.callback != BEST:
            continue
        # Where there are slots, one of them holds the best; which one may become clear only later.
        role = f"candidate/{made.slot}" if made.HasField("slot") else "best"
        if made.HasField("slot") or made.verdict == event_pb2.VERDICT_IMPROVED:
            weights = own.get(event.epoch) or weights_of(event.epoch)
            if weights is not None:
                kept.append(Pinned(role, _digests(weights)))
    return kept


def spec_bundles(spec: run_pb2.RunSpec) -> list[blob_pb2.Bundle]:
    """Lists the bundles that a specification names."""
    found = [spec.train_data]
    if spec.HasField("eval_data"):
        found.append(spec.eval_data)
    for component in (spec.model, *spec.callbacks):
        found.extend(component.attachments[name] for name in sorted(component.attachments))
    return found


def event_refs(event: event_pb2.Event) -> list[blob_pb2.BlobRef]:
    """Lists the files that an event names."""
    kind = event.WhichOneof("kind")
    if kind == "checkpoint_saved":
        saved = event.checkpoint_saved
        return [*bundles.refs(saved.weights), *bundles.refs(saved.training_state)]
    if kind == "metrics_measured" and event.metrics_measured.HasField("examples"):
        return [event.metrics_measured.examples]
    if kind == "run_ended" and event.run_ended.HasField("artifact"):
        return bundles.refs(event.run_ended.artifact)
    return []


def _digests(*of: blob_pb2.Bundle) -> tuple[str, ...]:
    return tuple(sorted({ref.blake3 for bundle in of for ref in bundles.refs(bundle)}))
