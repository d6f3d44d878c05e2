"""The trainer's memory: all or none, each event once, the right worker only."""

from pathlib import Path

import pytest

from tunevane.api.trainer.v1 import run_pb2
from tunevane.api.type.v1 import blob_pb2, event_pb2
from tunevane.errors import AlreadyExistsError, ConfigurationError, NotFoundError, PreconditionError, StaleWriterError
from tunevane_trainer.store import RunStore


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    made = RunStore(tmp_path / "runs.sqlite")
    made.create(run_pb2.Run(name="runs/one", uid="u", state=run_pb2.RUN_STATE_PENDING), "request")
    return made


def line(text: str) -> event_pb2.Event:
    return event_pb2.Event(log_written=event_pb2.LogWritten(text=text))


def texts(store: RunStore) -> list[str]:
    return [event.log_written.text for event in store.events("runs/one", 0)]


def saved(digest: str, epoch: int) -> event_pb2.Event:
    blob = blob_pb2.BlobRef(blake3=digest * 64, size_bytes=1)
    weights = blob_pb2.Bundle(files=[blob_pb2.BundleFile(path="w", blob=blob)])
    return event_pb2.Event(epoch=epoch, checkpoint_saved=event_pb2.CheckpointSaved(weights=weights))


def improved(epoch: int) -> event_pb2.Event:
    made = event_pb2.DecisionMade(callback="best-model-checkpoint", verdict=event_pb2.VERDICT_IMPROVED)
    return event_pb2.Event(epoch=epoch, decision_made=made)


def test_events_are_numbered_without_gaps(store: RunStore) -> None:
    store.append("runs/one", [line("a"), line("b")])
    store.append("runs/one", [line("c")])
    assert [event.sequence for event in store.events("runs/one", 0)] == [1, 2, 3]


def test_a_repeated_call_of_a_worker_adds_nothing(store: RunStore) -> None:
    store.grant("runs/one", "secret")
    for _ in range(2):
        _, expected = store.append("runs/one", [line("a"), line("b")], token="secret", worker_sequence=1)
        assert expected == 3
    store.append("runs/one", [line("b"), line("c")], token="secret", worker_sequence=2)
    assert texts(store) == ["a", "b", "c"]


def test_a_gap_of_a_worker_is_refused_with_the_number(store: RunStore) -> None:
    store.grant("runs/one", "secret")
    with pytest.raises(PreconditionError) as caught:
        store.append("runs/one", [line("x")], token="secret", worker_sequence=5)
    assert caught.value.details == {"expected_worker_sequence": "1"}


def test_a_replaced_worker_is_fenced(store: RunStore) -> None:
    store.grant("runs/one", "old")
    assert store.grant("runs/one", "new").lost == 1
    with pytest.raises(StaleWriterError):
        store.append("runs/one", [line("late")], token="old", worker_sequence=1)
    assert texts(store) == []


def test_a_worker_that_gave_the_run_back_is_not_lost(store: RunStore) -> None:
    store.grant("runs/one", "first")
    store.release("runs/one")
    assert store.grant("runs/one", "second").lost == 0


def test_nothing_is_added_after_the_end(store: RunStore) -> None:
    store.append("runs/one", [event_pb2.Event(run_ended=event_pb2.RunEnded(failure_reason="no"))])
    run, _ = store.append("runs/one", [line("late")])
    assert (run.state, texts(store)) == (run_pb2.RUN_STATE_FAILED, [""])


def test_the_last_and_the_best_checkpoints_are_kept(store: RunStore) -> None:
    store.append("runs/one", [improved(1), saved("a", 1)])
    store.append("runs/one", [saved("b", 2)])
    store.append("runs/one", [saved("c", 3)])
    assert store.pinned() == {"a" * 64, "c" * 64}


def test_an_epoch_that_is_found_best_later_is_kept(store: RunStore) -> None:
    for epoch, digest in enumerate("abcd", start=1):
        store.append("runs/one", [saved(digest, epoch)], keep_epochs=3)
    assert store.pinned() == {"b" * 64, "c" * 64, "d" * 64}
    store.append("runs/one", [improved(2)], keep_epochs=3)
    store.append("runs/one", [saved("e", 5), saved("f", 6)], keep_epochs=3)
    assert store.pinned() == {"b" * 64, "d" * 64, "e" * 64, "f" * 64}


def test_a_checkpoint_within_an_epoch_is_kept_until_its_end(store: RunStore) -> None:
    store.append("runs/one", [improved(1), saved("a", 1)])
    within = saved("b", 2)
    within.checkpoint_saved.batch = 3
    store.append("runs/one", [within])
    assert store.pinned() == {"a" * 64, "b" * 64}
    store.append("runs/one", [saved("c", 2)])
    assert store.pinned() == {"a" * 64, "c" * 64}
    store.append("runs/one", [event_pb2.Event(run_ended=event_pb2.RunEnded(cancelled=True))])
    assert store.pinned() == set()


def test_the_same_request_makes_one_run(store: RunStore) -> None:
    again = store.create(run_pb2.Run(name="runs/two"), "request")
    assert again.name == "runs/one"
    with pytest.raises(AlreadyExistsError, match="choose another name"):
        store.create(run_pb2.Run(name="runs/one"), "other")


def test_runs_come_newest_first_page_by_page(store: RunStore) -> None:
    for number in range(4):
        store.create(run_pb2.Run(name=f"runs/more-{number}"), "")
    names: list[str] = []
    following: int | None = None
    while True:
        page, following = store.page(2, following)
        names.extend(run.name for run in page)
        if following is None:
            break
    assert names == ["runs/more-3", "runs/more-2", "runs/more-1", "runs/more-0", "runs/one"]


def test_a_run_that_goes_on_cannot_be_deleted(store: RunStore) -> None:
    with pytest.raises(PreconditionError, match="cancel it first"):
        store.delete("runs/one")
    store.append("runs/one", [event_pb2.Event(run_ended=event_pb2.RunEnded(cancelled=True))])
    store.delete("runs/one")
    with pytest.raises(NotFoundError):
        store.get("runs/one")


def test_a_damaged_file_and_one_of_a_newer_version_are_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.sqlite").write_bytes(b"this is no database at all" * 100)
    with pytest.raises(ConfigurationError, match="move it aside"):
        RunStore(tmp_path / "bad.sqlite")
    newer = RunStore(tmp_path / "new.sqlite")
    newer._db.execute("PRAGMA user_version = 99")
    newer.close()
    with pytest.raises(ConfigurationError, match="newer version"):
        RunStore(tmp_path / "new.sqlite")
