"""Memory is bounded: what grows with the index is the table of ids, and the engine's own storage."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[2]
GIB = 1 << 30
VECTOR_BYTES = 4 * 384


def measured(count: int, folder: Path) -> Mapping[str, float]:
    """Evaluates in processes of their own, and returns the peaks of memory in bytes."""
    environment = {**os.environ, "PYTHONPATH": str(TESTS)}
    for what in ("prepare", "run"):
        command = [sys.executable, "-m", "support.large_index", what, str(count), str(folder)]
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    peaks: Mapping[str, float] = json.loads(done.stdout)
    return peaks


def check(peaks: Mapping[str, float], count: int) -> None:
    """A thousand bytes of text, id and digest for each document; for the engine half as much again as vectors need."""
    grown = peaks["evaluator"] - peaks["before"]
    assert grown < 0.1 * GIB + 1000 * count, peaks
    assert peaks["engine"] < 0.25 * GIB + 1.5 * VECTOR_BYTES * count, peaks


def test_memory_grows_by_ids_and_the_engines_storage_alone(tmp_path: Path) -> None:
    count = 100_000
    peaks = measured(count, tmp_path)
    check(peaks, count)
    # Far less than the vectors need, which the evaluator never holds.
    assert peaks["evaluator"] - peaks["before"] < VECTOR_BYTES * count


@pytest.mark.nightly
@pytest.mark.timeout(1800)
def test_a_million_documents_fit_into_four_gibibytes(tmp_path: Path) -> None:
    count = 1_000_000
    peaks = measured(count, tmp_path)
    check(peaks, count)
    assert peaks["evaluator"] + peaks["engine"] < 4 * GIB, peaks
