"""Weights of epochs that may still turn out to be best are kept, one per slot, whenever the decision comes."""

from __future__ import annotations

import pytest

from tunevane.api.type.v1 import blob_pb2, event_pb2
from tunevane_trainer.history import Pinned, pins


def bundle(epoch: int) -> blob_pb2.Bundle:
    return blob_pb2.Bundle(files=[blob_pb2.BundleFile(path="w", blob=blob_pb2.BlobRef(blake3=f"weights {epoch}"))])


def decided(epoch: int, *, slot: int | None = None, improved: bool = False) -> event_pb2.Event:
    verdict = event_pb2.VERDICT_IMPROVED if improved else event_pb2.VERDICT_NOT_IMPROVED
    made = event_pb2.DecisionMade(callback="best-model-checkpoint", verdict=verdict, slot=slot)
    return event_pb2.Event(epoch=epoch, decision_made=made)


def saved(epoch: int) -> event_pb2.Event:
    return event_pb2.Event(epoch=epoch, checkpoint_saved=event_pb2.CheckpointSaved(weights=bundle(epoch)))


@pytest.mark.parametrize(
    ("event", "pinned"),
    [
        (decided(3, slot=0), Pinned("candidate/0", ("weights 3",))),
        (decided(3, slot=2, improved=True), Pinned("candidate/2", ("weights 3",))),
        (decided(3, improved=True), Pinned("best", ("weights 3",))),
        (decided(3), None),
    ],
)
@pytest.mark.parametrize("later", [False, True])
def test_what_a_decision_keeps(event: event_pb2.Event, pinned: Pinned | None, later: bool) -> None:
    batch = [event] if later else [saved(3), event]
    kept = [each for each in pins(batch, 1, bundle) if each.role.startswith(("candidate/", "best"))]
    assert kept == ([] if pinned is None else [pinned])
