"""Best, last and leased checkpoints are kept and the rest is collected, also when collecting is cut in the middle."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tunevane.api.trainer.v1 import run_pb2
from tunevane.api.type.v1 import blob_pb2, event_pb2
from tunevane.core import bundles
from tunevane.storage.blobs import BlobStore
from tunevane_trainer.collection import collect
from tunevane_trainer.store import RunStore

NOW, LONG_AGO = 2_000_000_000.0, 1_000_000_000.0
RUN = "runs/one"


class Service:
    """A trainer's memory and its blobs; each epoch has a file of its own, and one that all share."""

    def __init__(self, folder: Path) -> None:
        self.blobs = BlobStore(folder / "blobs")
        self.store = RunStore(folder / "runs.sqlite")
        self.store.create(run_pb2.Run(name=RUN, uid="u"), "request")
        self.shared = self.blobs.put_bytes(b"frozen layers")
        self.own: dict[int, blob_pb2.BlobRef] = {}

    def epoch(self, number: int, *, improved: bool, keep: int = 1) -> None:
        self.own[number] = self.blobs.put_bytes(f"weights of epoch {number}".encode())
        weights = bundles.make({"own": self.own[number], "shared": self.shared})
        verdict = event_pb2.VERDICT_IMPROVED if improved else event_pb2.VERDICT_NOT_IMPROVED
        made = event_pb2.DecisionMade(callback="best-model-checkpoint", verdict=verdict)
        events = [
            event_pb2.Event(epoch=number, decision_made=made),
            event_pb2.Event(epoch=number, checkpoint_saved=event_pb2.CheckpointSaved(weights=weights)),
        ]
        self.store.append(RUN, events, keep_epochs=keep)

    def age(self) -> None:
        """Lets everything be unused for long."""
        for digest, _, _ in list(self.blobs.digests()):
            os.utime(self.blobs._place(digest), (LONG_AGO, LONG_AGO))

    def collect(self) -> int:
        return collect(self.blobs, self.store.pinned(), NOW - 600)

    def held(self) -> set[int]:
        return {number for number, ref in self.own.items() if self.blobs.has(ref)}


@pytest.fixture
def service(tmp_path: Path) -> Service:
    return Service(tmp_path)


def test_the_best_and_the_last_stay_and_what_epochs_share(service: Service) -> None:
    for number in range(1, 7):
        service.epoch(number, improved=number in (1, 3))
    service.age()
    assert service.collect() == 4
    assert service.held() == {3, 6}
    assert service.blobs.has(service.shared)
    assert service.collect() == 0


def test_epochs_that_are_not_decided_yet_stay(service: Service) -> None:
    for number in range(1, 7):
        service.epoch(number, improved=number == 1, keep=3)
    service.age()
    service.collect()
    assert service.held() == {1, 4, 5, 6}


def test_what_was_used_a_moment_ago_stays(service: Service) -> None:
    for number in (1, 2, 3):
        service.epoch(number, improved=False)
    service.age()
    # A worker has stored it again and not committed it yet.
    os.utime(service.blobs.path(service.own[1]), (NOW, NOW))
    service.collect()
    assert service.held() == {1, 3}


def test_what_is_used_while_collecting_stays(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in (1, 2, 3):
        service.epoch(number, improved=False)
    service.age()
    listed = list(service.blobs.digests())
    os.utime(service.blobs.path(service.own[2]), (NOW, NOW))
    monkeypatch.setattr(service.blobs, "digests", lambda: iter(listed))
    assert service.collect() == 1
    assert service.held() == {2, 3}


def test_a_crash_in_the_middle_breaks_nothing(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(1, 7):
        service.epoch(number, improved=number == 2)
    service.age()
    left = [2]
    unlink = Path.unlink

    def dying(path: Path, missing_ok: bool = False) -> None:
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        unlink(path, missing_ok)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", dying)
        with pytest.raises(KeyboardInterrupt):
            service.collect()
    assert {2, 6} < service.held()
    for number in service.held():
        assert service.blobs.read(service.own[number]) == f"weights of epoch {number}".encode()
    # The next service, after the crash, finishes it.
    assert collect(BlobStore(service.blobs.root), service.store.pinned(), NOW - 600) == 2
    assert service.held() == {2, 6}


def test_after_its_end_a_run_keeps_its_artifact_only(service: Service) -> None:
    service.epoch(1, improved=True)
    artifact = service.blobs.put_bytes(b"the model")
    ended = event_pb2.RunEnded(artifact=bundles.make({"model": artifact}))
    service.store.append(RUN, [event_pb2.Event(run_ended=ended)])
    service.age()
    service.collect()
    assert [digest for digest, _, _ in service.blobs.digests()] == [artifact.blake3]
    service.store.delete(RUN)
    assert service.collect() == 1
