"""Remembered results."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tunevane.api.evaluator.v1 import evaluator_service_pb2 as wire
from tunevane.errors import ConfigurationError
from tunevane.storage.blobs import BlobStore
from tunevane_evaluator.cache import make_room
from tunevane_evaluator.results import Results


def test_results_survive_and_can_be_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "new" / "results.sqlite"
    result = wire.EvaluationResult(query_count=3, seconds={"encode": 0.5}, warnings=["a", "b"])
    first = Results(path)
    assert first.get("key") is None
    first.put("key", wire.EvaluationResult())
    first.put("key", result)
    first.close()
    second = Results(path)
    assert second.get("key") == result
    second.forget("key")
    assert second.get("key") is None
    second.close()


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    path = tmp_path / "results.sqlite"
    path.write_bytes(b"no database at all" * 100)
    with pytest.raises(ConfigurationError, match=r"results\.sqlite cannot be read .* move it aside"):
        Results(path)


def test_a_disk_that_refuses_costs_only_the_memory(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    results = Results(tmp_path / "results.sqlite")
    results._db.execute("PRAGMA query_only = ON")
    results.put("key", wire.EvaluationResult())
    assert results.get("key") is None
    results.close()
    assert "could not remember a result" in caplog.text


def test_the_least_recently_used_blobs_make_room(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    refs = [store.put_bytes(bytes([number]) * 100) for number in range(6)]
    for age, ref in enumerate(refs):
        os.utime(store.path(ref), (1000 + age, 1000 + age))
    # Number 0 is the oldest, and in use; 1 and 2 have to go.
    assert make_room(store, 400, {refs[0].blake3}) == 200
    assert [store.has(ref) for ref in refs] == [True, False, False, True, True, True]
    assert make_room(store, 400, set()) == 0
    assert make_room(store, 1, {ref.blake3 for ref in refs}) == 0
