"""Data sets as bundles of files: `dataset.json`, `items.jsonl` and, where there are pairs, `pairs.jsonl`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import islice

from tunevane.api.type.v1 import blob_pb2
from tunevane.core import bundles
from tunevane.core.dataset import Dataset, Item, duplicates
from tunevane.errors import DataFormatError
from tunevane.storage.blobs import BlobStore

VERSION = 1
_ROWS_PER_PIECE = 4096


def save(data: Dataset, store: BlobStore) -> blob_pb2.Bundle:
    """Writes a data set; the same set always gives the same bytes."""
    about = {"version": VERSION, "kind": data.kind, "items": len(data.items), "pairs": len(data.pairs)}
    files = {
        "dataset.json": store.put_bytes(json.dumps(about, sort_keys=True).encode()),
        "items.jsonl": store.put_chunks(_lines(_row(item) for item in data.items)),
    }
    if data.pairs:
        scores = data.scores or (None,) * len(data.pairs)
        rows = ([*pair] if score is None else [*pair, score] for pair, score in zip(data.pairs, scores, strict=True))
        files["pairs.jsonl"] = store.put_chunks(_lines(rows))
    return bundles.make(files)


def _row(item: Item) -> dict[str, object]:
    row: dict[str, object] = {"id": item.id, "text": item.text}
    if item.label is not None:
        row["label"] = item.label
    if item.relevant:
        row["relevant"] = dict(sorted(item.relevant.items()))
    return row


def _lines(rows: Iterable[object]) -> Iterator[bytes]:
    remaining = iter(rows)
    while some := list(islice(remaining, _ROWS_PER_PIECE)):
        yield "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in some).encode()


def load(bundle: blob_pb2.Bundle, store: BlobStore) -> Dataset:
    """Reads a data set back.

    Raises:
        DataFormatError: The files are not a data set of ours.

    """
    try:
        about = json.loads(store.read(bundles.get(bundle, "dataset.json")))
        if about["version"] != VERSION:
            raise DataFormatError(
                f"this data set has format {about['version']}; this version of tunevane reads {VERSION}"
            )
        items = tuple(
            Item(row["id"], row["text"], row.get("label"), row.get("relevant", {}))
            for row in map(json.loads, store.read(bundles.get(bundle, "items.jsonl")).splitlines())
        )
        pairs: tuple[tuple[int, int], ...] = ()
        scores: tuple[float, ...] = ()
        if about["pairs"]:
            rows = [json.loads(line) for line in store.read(bundles.get(bundle, "pairs.jsonl")).splitlines()]
            pairs = tuple((int(row[0]), int(row[1])) for row in rows)
            scores = tuple(float(row[2]) for row in rows if len(row) > 2)
        data = Dataset(about["kind"], items, pairs, scores)
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise DataFormatError(f"the files are not a data set: {error!r}") from error
    _check(data)
    return data


def _check(data: Dataset) -> None:
    count = len(data.items)
    if count == 0:
        raise DataFormatError("the data set is empty")
    if data.kind not in ("items", "pairs", "scored"):
        raise DataFormatError(f"the data set has the unknown kind {data.kind!r}")
    if any(not (0 <= left < count and 0 <= right < count) for left, right in data.pairs):
        raise DataFormatError(f"a pair of the data set names an item outside its {count}")
    doubled = duplicates([item.id for item in data.items])
    if doubled:
        raise DataFormatError(f"the data set has the id {doubled[0]!r} more than once")
