"""An evaluation whose embeddings are there already: everything but the model is real."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import cast

import numpy as np

from tunevane.api.evaluator.v1 import evaluator_service_pb2 as wire
from tunevane.api.type.v1 import evaluation_pb2
from tunevane.core.dataset import Dataset, Item
from tunevane.nn.encode import Encoder
from tunevane.storage import datasets
from tunevane.storage.blobs import BlobStore
from tunevane_evaluator.index.port import Floats
from tunevane_evaluator.searches import OpenIndex
from tunevane_evaluator.work import Work


def go_on() -> None:
    """Never stops anything."""


class ReadyEncoder:
    """Stands for a model: a text is `<set> <row>`, and names a row of a set of vectors."""

    def __init__(self, sets: dict[str, Floats], batch: int = 256) -> None:
        self._sets = sets
        self._batch = batch

    def stream(
        self, texts: Sequence[str], *, bf16: bool, batch_size: int | None, check: Callable[[], None]
    ) -> Iterator[tuple[list[int], Floats]]:
        # Not in order, as a real encoder.
        for start in range((len(texts) - 1) // self._batch * self._batch, -1, -self._batch):
            check()
            positions = list(range(start, min(start + self._batch, len(texts))))
            names = [texts[position].split() for position in positions]
            yield positions, np.stack([self._sets[name][int(row)] for name, row in names])


def named(name: str, labels: Sequence[object]) -> Dataset:
    """Makes a set whose texts name vectors."""
    items = [Item(f"{name}{row}", f"{name} {row}", label=str(label)) for row, label in enumerate(labels)]
    return Dataset("items", tuple(items))


def work(
    store: BlobStore | Path,
    queries: Floats,
    documents: Floats,
    query_labels: Sequence[object],
    labels: Sequence[object],
    open_index: OpenIndex,
    plan: Mapping[str, object],
    check: Callable[[], None] = go_on,
) -> Work:
    """Prepares an evaluation of queries `[q, d]` on documents `[n, d]`."""
    blobs = store if isinstance(store, BlobStore) else BlobStore(store)
    made = evaluation_pb2.EvaluationPlan(
        query_data=datasets.save(named("q", query_labels), blobs),
        index_data=datasets.save(named("d", labels), blobs),
        **plan,  # type: ignore[arg-type]  # fields by name
    )
    request = wire.EvaluateRequest(run="runs/test", plan=made)
    encoder = cast("Encoder", ReadyEncoder({"q": queries, "d": documents}))
    return Work(request, encoder, open_index, blobs, lambda progress: None, check)
