"""One evaluation on many documents, in processes of its own whose memory can be measured.

`python -m support.large_index prepare COUNT FOLDER`, then `... run COUNT FOLDER`, which prints a line of JSON.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import psutil

DIMENSIONS = 384
QUERIES = 64


class Generator:
    """Stands for a model: makes up the vectors of a batch from their positions, and keeps none."""

    def stream(
        self, texts: Sequence[str], *, bf16: bool, batch_size: int | None, check: Callable[[], None]
    ) -> Iterator[tuple[list[int], np.ndarray[tuple[int, int], np.dtype[np.float32]]]]:
        for start in range(0, len(texts), 512):
            check()
            positions = list(range(start, min(start + 512, len(texts))))
            made = np.random.default_rng(start).standard_normal((len(positions), DIMENSIONS), dtype=np.float32)
            yield positions, made


def prepare(count: int, folder: Path) -> None:
    """Writes the data sets."""
    from tunevane.core.dataset import Dataset, Item
    from tunevane.storage import datasets
    from tunevane.storage.blobs import BlobStore

    store = BlobStore(folder / "blobs")
    for name, size in (("queries", QUERIES), ("documents", count)):
        items = tuple(Item(f"{name}-{n}", f"text {n} of the {name}", label=str(n % 1000)) for n in range(size))
        (folder / name).write_bytes(datasets.save(Dataset("items", items), store).SerializeToString())


def run(count: int, folder: Path) -> None:
    """Evaluates, and prints the peaks of memory in bytes: of this process, of the engine's, and before the work."""
    from tunevane.api.evaluator.v1 import evaluator_service_pb2 as wire
    from tunevane.api.type.v1 import blob_pb2, evaluation_pb2
    from tunevane.nn.encode import Encoder
    from tunevane.storage.blobs import BlobStore
    from tunevane_evaluator import evaluation
    from tunevane_evaluator.config import EvaluatorConfig
    from tunevane_evaluator.engine import Engine
    from tunevane_evaluator.work import Work

    bundles = [blob_pb2.Bundle.FromString((folder / name).read_bytes()) for name in ("queries", "documents")]
    plan = evaluation_pb2.EvaluationPlan(query_data=bundles[0], index_data=bundles[1], metrics=["ndcg@10"])
    engine = Engine(EvaluatorConfig(state_dir=folder / "state"))
    opener = engine.opener("large", lambda: None)
    before = psutil.Process().memory_info().rss
    store, request = BlobStore(folder / "blobs"), wire.EvaluateRequest(plan=plan)
    peaks, ended = [0], threading.Event()

    def sample() -> None:
        while not ended.wait(0.1):
            if engine.pid is not None:
                peaks.append(_held(engine.pid))

    sampler = threading.Thread(target=sample)
    sampler.start()
    try:
        work = Work(request, cast("Encoder", Generator()), opener, store, lambda progress: None, lambda: None)
        result = evaluation.run(work)
    finally:
        ended.set()
        sampler.join()
    assert result.document_count == count
    engine.close()
    print(json.dumps({"evaluator": _peak(), "engine": max(peaks), "before": before, **dict(result.seconds)}))  # noqa: T201


def _peak() -> int:
    """Returns the most memory that this process ever had resident, in bytes."""
    return _kilobytes(Path("/proc/self/status"), "VmHWM:") * 1024


def _held(pid: int) -> int:
    """Returns the memory of a process in bytes, each page counted once: the engine maps its files twice."""
    return _kilobytes(Path(f"/proc/{pid}/smaps_rollup"), "Pss:") * 1024


def _kilobytes(file: Path, name: str) -> int:
    return int(next(line.split()[1] for line in file.read_text().splitlines() if line.startswith(name)))


if __name__ == "__main__":
    {"prepare": prepare, "run": run}[sys.argv[1]](int(sys.argv[2]), Path(sys.argv[3]))
