"""Data sets as bundles of files: `dataset.json`, `items.jsonl`, where there are pairs `pairs.jsonl`, and images.

`items.jsonl` has one object per item; `pairs.jsonl` has `[first, second]` or `[first, second, score]` per pair, where
first and second are positions of items, counted from 0; `images/` has each distinct image once, named by its digest.
The same set always gives the same bytes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, get_args

import numpy as np

from tunevane.api.type.v1 import blob_pb2
from tunevane.core import bundles
from tunevane.core.dataset import Dataset, Item, Kind, checked
from tunevane.errors import DataFormatError
from tunevane.storage.blobs import BlobStore
from tunevane.storage.readers.assembly import Assembly, Mask, assemble
from tunevane.storage.readers.read import open_rows, read

__all__ = ["VERSION", "kind_of", "load", "read", "save", "write", "write_split"]

VERSION = 1
_ROWS_PER_PIECE = 4096
_ITEM_KEYS = frozenset({"id", "text", "image", "label", "relevant"})
_write = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def write(source: object, store: BlobStore, *, is_labeled: bool = False, header: bool | None = None) -> blob_pb2.Bundle:
    """Reads a data set straight into a bundle's files, with bounded memory.

    Args:
        source: As in `read`.
        store: Where the files go.
        is_labeled: As in `read`.
        header: As in `read`.

    Raises:
        DataFormatError: It cannot be read; the sentence names file, line and reason.

    """
    if isinstance(source, Dataset):
        return save(source, store)
    opened = open_rows(source, is_labeled=is_labeled, header=header, store=store)
    assembly = assemble(opened.source, opened.rows)
    try:
        return _store(assembly, None, store, opened.images.blobs)
    finally:
        assembly.close()


def write_split(
    source: object,
    store: BlobStore,
    *,
    val_split: float,
    seed: int = 0,
    is_labeled: bool = False,
    header: bool | None = None,
) -> tuple[blob_pb2.Bundle, blob_pb2.Bundle]:
    """Reads a data set into two bundles: what is learned from, and what is held out for validation.

    Pairs that are connected stay together, so that nothing that is validated on was learned.

    Args:
        source: As in `read`, but no `Dataset`.
        store: Where the files go.
        val_split: Share that is held out, in (0, 1).
        seed: Of the draw; the same seed always holds out the same.
        is_labeled: As in `read`.
        header: As in `read`.

    Raises:
        DataFormatError: It cannot be read, or is too small to be split.

    """
    if not 0 < val_split < 1:
        raise DataFormatError(f"val_split must be larger than 0 and smaller than 1, not {val_split}")
    opened = open_rows(source, is_labeled=is_labeled, header=header, store=store)
    assembly = assemble(opened.source, opened.rows)
    try:
        first, second = assembly.split(val_split, seed)
        return tuple(_store(assembly, part, store, opened.images.blobs) for part in (first, second))  # type: ignore[return-value]  # two of them
    finally:
        assembly.close()


def _store(
    assembly: Assembly, part: tuple[Mask, Mask] | None, store: BlobStore, images: Mapping[str, blob_pb2.BlobRef]
) -> blob_pb2.Bundle:
    """Writes an assembly, or the items and pairs that two masks keep."""
    keep_items, keep_pairs = (None, None) if part is None else part
    items = assembly.item_count if keep_items is None else int(keep_items.sum())
    pairs = assembly.pair_count if keep_pairs is None else int(keep_pairs.sum())
    shown: set[str] = set()

    def kept() -> Iterator[Item]:
        for item in assembly.items(keep_items):
            if item.image is not None:
                shown.add(item.image)
            yield item

    def rows() -> Iterator[list[float]]:
        # Positions count the items that are kept.
        place = None if keep_items is None else np.cumsum(keep_items) - 1
        for first, second, score in assembly.pairs(keep_pairs):
            one, two = (first, second) if place is None else (int(place[first]), int(place[second]))
            yield [one, two] if score is None else [one, two, score]

    return _bundle(assembly.kind, items, kept(), pairs, rows(), store, lambda: {name: images[name] for name in shown})


def save(data: Dataset, store: BlobStore, images: Mapping[str, blob_pb2.BlobRef] | None = None) -> blob_pb2.Bundle:
    """Writes a data set.

    Args:
        data: The set.
        store: Where its files go.
        images: The blobs of its images by path, where it has some.

    Raises:
        DataFormatError: The set breaks its own rules, for example has an id twice, or an image is not given.

    """
    checked(data)
    found: dict[str, blob_pb2.BlobRef] = {}
    for item in data.items:
        if item.image is not None:
            if item.image not in (images or {}):
                raise DataFormatError(f"the item {item.id!r} has the image {item.image!r}, whose bytes are not given")
            found[item.image] = (images or {})[item.image]
    pairs: list[list[float]] = data.pairs.tolist()
    scores: list[float] | None = None if data.scores is None else data.scores.tolist()
    rows = pairs if scores is None else ([*pair, score] for pair, score in zip(pairs, scores, strict=True))
    return _bundle(data.kind, len(data.items), data.items, len(pairs), rows, store, lambda: found)


def _bundle(
    kind: Kind,
    item_count: int,
    items: Iterable[Item],
    pair_count: int,
    pairs: Iterable[list[float]],
    store: BlobStore,
    images: Callable[[], Mapping[str, blob_pb2.BlobRef]],
) -> blob_pb2.Bundle:
    about = {"version": VERSION, "kind": kind, "items": item_count, "pairs": pair_count}
    files = {
        "dataset.json": store.put_bytes(_write(about).encode()),
        "items.jsonl": store.put_chunks(_lines(_row(item) for item in items)),
    }
    if pair_count:
        files["pairs.jsonl"] = store.put_chunks(_lines(pairs))
    # Known only once the items have gone by.
    return bundles.make({**files, **images()})


def _row(item: Item) -> dict[str, object]:
    fields = (("id", item.id), ("text", item.text), ("image", item.image), ("label", item.label))
    row: dict[str, object] = {key: value for key, value in fields if value is not None}
    if item.relevant:
        row["relevant"] = {name: float(grade) for name, grade in sorted(item.relevant.items())}
    return row


def _lines(rows: Iterable[object]) -> Iterator[bytes]:
    remaining = iter(rows)
    while some := list(islice(remaining, _ROWS_PER_PIECE)):
        yield "".join(_write(row) + "\n" for row in some).encode()


def load(bundle: blob_pb2.Bundle, store: BlobStore) -> Dataset:
    """Reads a data set back.

    Raises:
        DataFormatError: The files are not a data set of ours.
        NotFoundError: The store lacks one of the files.

    """
    about = _about(bundle, store)
    paths = {file.path for file in bundle.files}
    items = tuple(_item(row, line, paths) for line, row in _rows(bundle, store, "items.jsonl"))
    rows = list(_rows(bundle, store, "pairs.jsonl")) if about["pairs"] else []
    if (len(items), len(rows)) != (about["items"], about["pairs"]):
        raise DataFormatError(
            f"dataset.json tells of {about['items']} items and {about['pairs']} pairs;"
            f" the files have {len(items)} and {len(rows)}"
        )
    scored = about["kind"] == "scored"
    for line, row in rows:
        _check_pair(row, line, scored, len(items))
    table = np.array([row for _, row in rows], np.float64).reshape(len(rows), 3 if scored else 2)
    pairs = table[:, :2].astype(np.int64)
    # `checked` refuses an unknown kind.
    return checked(Dataset(about["kind"], items, pairs, table[:, 2].copy() if scored else None))


def kind_of(bundle: blob_pb2.Bundle, store: BlobStore) -> Kind:
    """Tells what kind of data set a bundle is, from its smallest file.

    Raises:
        DataFormatError: The file is not one of ours.
        NotFoundError: The store lacks it.

    """
    found = _about(bundle, store)["kind"]
    if found not in get_args(Kind):
        raise DataFormatError(f"dataset.json has the unknown kind {found!r}; known are {', '.join(get_args(Kind))}")
    chosen: Kind = found
    return chosen


def _refuse(name: str, line: int, reason: str) -> DataFormatError:
    return DataFormatError(f"{name}, line {line}: {reason}", {"line": str(line)})


def _blob(bundle: blob_pb2.Bundle, name: str) -> blob_pb2.BlobRef:
    if all(file.path != name for file in bundle.files):
        raise DataFormatError(f"the bundle is no data set: it has no file {name}")
    return bundles.get(bundle, name)


# Any: the values of a JSON object, checked here.
def _about(bundle: blob_pb2.Bundle, store: BlobStore) -> dict[str, Any]:
    try:
        about = json.loads(store.read(_blob(bundle, "dataset.json")))
    except (ValueError, RecursionError) as error:
        raise DataFormatError(f"dataset.json is malformed: {error}") from error
    if not isinstance(about, dict) or type(about.get("version")) is not int:
        raise DataFormatError("dataset.json is no object with a version")
    if about["version"] != VERSION:
        raise DataFormatError(f"this data set has format {about['version']}; this version of tunevane reads {VERSION}")
    if not isinstance(about.get("kind"), str) or any(type(about.get(key)) is not int for key in ("items", "pairs")):
        raise DataFormatError("dataset.json needs a kind and the numbers of items and pairs")
    return about


def _rows(bundle: blob_pb2.Bundle, store: BlobStore, name: str) -> Iterator[tuple[int, Any]]:
    for line, row in enumerate(store.read(_blob(bundle, name)).splitlines(), start=1):
        try:
            yield line, json.loads(row)
        except (ValueError, RecursionError) as error:
            raise _refuse(name, line, f"is malformed: {error}") from error


def _item(row: Any, line: int, paths: Container[str]) -> Item:
    if not isinstance(row, dict) or not row.keys() <= _ITEM_KEYS or not row.get("id"):
        raise _refuse("items.jsonl", line, f"is no object with an id and no more than {', '.join(sorted(_ITEM_KEYS))}")
    grades = row.pop("relevant", {})
    if any(not isinstance(value, str) for value in row.values()) or not isinstance(grades, dict):
        raise _refuse("items.jsonl", line, "has a field of the wrong type")
    if not all(_is_number(grade) and grade >= 0 for grade in grades.values()):
        raise _refuse("items.jsonl", line, "has a grade that is no finite number of at least 0")
    if "text" not in row and "image" not in row:
        raise _refuse("items.jsonl", line, "has neither a text nor an image")
    if "image" in row and row["image"] not in paths:
        raise _refuse("items.jsonl", line, f"names the image {row['image'][:80]!r}, which is no file of the bundle")
    return Item(**row, relevant=grades)


def _check_pair(row: Any, line: int, scored: bool, items: int) -> None:
    width = 3 if scored else 2
    if not isinstance(row, list) or len(row) != width or not all(map(_is_number, row)):
        raise _refuse("pairs.jsonl", line, f"is no list of {width} finite numbers")
    if type(row[0]) is not int or type(row[1]) is not int:
        raise _refuse("pairs.jsonl", line, "has a position that is no whole number")
    if not (0 <= row[0] < items and 0 <= row[1] < items):
        raise _refuse("pairs.jsonl", line, f"names an item outside the {items} of the set")


def _is_number(value: object) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    # A larger integer has no exact float64.
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= 2**53
