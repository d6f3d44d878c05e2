"""What is read, saved and loaded is the same set, always in the same bytes; broken files are refused."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tunevane.api.type.v1 import blob_pb2
from tunevane.core import bundles, dataset
from tunevane.core.dataset import Dataset, Item
from tunevane.errors import DataFormatError
from tunevane.storage import datasets
from tunevane.storage.blobs import BlobStore

ANY = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

# Everything that UTF-8 can carry except NUL, which is refused.
texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=20).filter(
    lambda text: not text.isspace()
)
scores = st.floats(allow_nan=False, allow_infinity=False)
records = st.lists(
    st.fixed_dictionaries(
        {"id": texts, "text": texts},
        optional={
            "label": st.one_of(texts, st.integers(), st.booleans(), scores),
            "relevant": st.dictionaries(texts, st.floats(0, 1e6), max_size=3),
        },
    ),
    min_size=1,
    max_size=10,
    unique_by=lambda record: str(record["id"]),
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> BlobStore:
    return BlobStore(tmp_path_factory.mktemp("blobs"))


def write_csv(path: Path, rows: list[Any]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows(rows)
    return path


@ANY
@given(st.lists(st.tuples(texts, texts), min_size=1, max_size=20))
def test_pairs_come_back(store: BlobStore, tmp_path: Path, rows: list[tuple[str, str]]) -> None:
    data = datasets.read(write_csv(tmp_path / "pairs.csv", rows), header=False)
    assert data == dataset.from_pairs(rows)
    assert datasets.load(datasets.save(data, store), store) == data


@ANY
@given(st.lists(st.tuples(texts, texts, scores), min_size=1, max_size=20))
def test_scored_pairs_come_back(store: BlobStore, tmp_path: Path, rows: list[tuple[str, str, float]]) -> None:
    data = datasets.read(write_csv(tmp_path / "scored.csv", rows), header=False)
    assert data == dataset.from_scored(rows)
    assert datasets.load(datasets.save(data, store), store) == data


@ANY
@given(records)
def test_records_come_back(store: BlobStore, tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    data = datasets.read(rows)
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert datasets.read(path) == data
    assert datasets.load(datasets.save(data, store), store) == data


def test_pictures_come_back(store: BlobStore) -> None:
    data = Dataset("items", (Item("a", image="images/a.png", label="1"), Item("b", "text", image="images/b.png")))
    images = {name: store.put_bytes(name.encode()) for name in ("images/a.png", "images/b.png", "images/c.png")}
    bundle = datasets.save(data, store, images)
    assert [file.path for file in bundle.files] == ["dataset.json", "images/a.png", "images/b.png", "items.jsonl"]
    assert datasets.load(bundle, store) == data


def test_a_picture_without_bytes_is_not_saved(store: BlobStore) -> None:
    with pytest.raises(DataFormatError, match="item 'a' has the image 'images/a.png', whose bytes are not given"):
        datasets.save(Dataset("items", (Item("a", image="images/a.png"),)), store)


def test_bytes_are_canonical(store: BlobStore) -> None:
    first = datasets.read([{"id": "q", "text": "é", "relevant": {"b": 1, "a": 2.0}, "label": 1.0}])
    other = datasets.read([{"label": "1", "relevant": {"a": 2, "b": 1}, "text": "é", "id": "q"}])
    bundle = datasets.save(first, store)
    assert datasets.save(other, store) == bundle
    assert store.read(bundles.get(bundle, "items.jsonl")).decode() == (
        '{"id":"q","text":"é","label":"1","relevant":{"a":2.0,"b":1.0}}\n'
    )
    assert [file.path for file in bundle.files] == ["dataset.json", "items.jsonl"]


def test_files_of_pairs(store: BlobStore) -> None:
    bundle = datasets.save(dataset.from_scored([("a", "b", 0.5), ("a", "a", 1)]), store)
    assert [file.path for file in bundle.files] == ["dataset.json", "items.jsonl", "pairs.jsonl"]
    assert store.read(bundles.get(bundle, "pairs.jsonl")) == b"[0,1,0.5]\n[0,0,1.0]\n"
    about = json.loads(store.read(bundles.get(bundle, "dataset.json")))
    assert about == {"version": 1, "kind": "scored", "items": 2, "pairs": 2}


def test_a_broken_set_is_not_saved(store: BlobStore) -> None:
    before = set(store.digests())
    with pytest.raises(DataFormatError, match="the id 'a' more than once"):
        datasets.save(Dataset("items", (Item("a", "x"), Item("a", "y"))), store)
    assert set(store.digests()) == before


ABOUT = b'{"version":1,"kind":"pairs","items":2,"pairs":1}'
ITEMS = b'{"id":"a","text":"x"}\n{"id":"b","text":"y"}\n'
PAIRS = b"[0,1]\n"
SCORED = ABOUT.replace(b"pairs", b"scored", 1)


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"dataset.json": None}, "no data set: it has no file dataset.json"),
        ({"items.jsonl": None}, "no data set: it has no file items.jsonl"),
        ({"pairs.jsonl": None}, "no data set: it has no file pairs.jsonl"),
        ({"dataset.json": b"{"}, "dataset.json is malformed"),
        ({"dataset.json": b"[1]"}, "dataset.json is no object with a version"),
        ({"dataset.json": b'{"version":2}'}, "has format 2; this version of tunevane reads 1"),
        ({"dataset.json": b'{"version":1,"kind":"pairs"}'}, "dataset.json needs a kind"),
        ({"dataset.json": ABOUT.replace(b'"pairs",', b'"trios",')}, "unknown kind 'trios'"),
        ({"dataset.json": ABOUT.replace(b'"items":2', b'"items":3')}, "tells of 3 items and 1 pairs"),
        ({"items.jsonl": b"\xff\n" + ITEMS}, "items.jsonl, line 1: is malformed"),
        ({"items.jsonl": b"[]\n" + ITEMS}, "items.jsonl, line 1: is no object with an id"),
        ({"items.jsonl": ITEMS.replace(b'"id":"b",', b"")}, "items.jsonl, line 2: is no object with an id"),
        ({"items.jsonl": ITEMS.replace(b'"y"', b'"y","z":1')}, "items.jsonl, line 2: is no object with an id"),
        ({"items.jsonl": ITEMS.replace(b'"y"', b"3")}, "items.jsonl, line 2: has a field of the wrong type"),
        ({"items.jsonl": ITEMS.replace(b'"text":"y"', b'"label":"1"')}, "line 2: has neither a text nor an image"),
        ({"items.jsonl": ITEMS.replace(b'"y"', b'"y","relevant":[]')}, "line 2: has a field of the wrong type"),
        ({"items.jsonl": ITEMS.replace(b'"y"', b'"y","relevant":{"d":-1}')}, "line 2: has a grade that is no"),
        ({"items.jsonl": ITEMS.replace(b'"y"', b'"y","relevant":{"d":true}')}, "line 2: has a grade that is no"),
        ({"items.jsonl": ITEMS.replace(b'"text":"y"', b'"image":"y.png"')}, "line 2: names the image 'y.png', which"),
        ({"items.jsonl": ITEMS.replace(b'"b"', b'"a"')}, "has the id 'a' more than once"),
        ({"pairs.jsonl": b"[0,2]\n"}, "pairs.jsonl, line 1: names an item outside the 2"),
        ({"pairs.jsonl": b"[0,-1]\n"}, "pairs.jsonl, line 1: names an item outside the 2"),
        ({"pairs.jsonl": b"[0,1.0]\n"}, "pairs.jsonl, line 1: has a position that is no whole number"),
        ({"pairs.jsonl": b"[0,1,1]\n"}, "pairs.jsonl, line 1: is no list of 2 finite numbers"),
        ({"pairs.jsonl": b"[0,true]\n"}, "pairs.jsonl, line 1: is no list of 2 finite numbers"),
        ({"pairs.jsonl": b"[0,1" + b"0" * 400 + b"]\n"}, "pairs.jsonl, line 1: is no list of 2 finite numbers"),
        ({"dataset.json": SCORED}, "pairs.jsonl, line 1: is no list of 3 finite numbers"),
        ({"dataset.json": SCORED, "pairs.jsonl": b"[0,1,NaN]\n"}, "line 1: is no list of 3 finite numbers"),
    ],
)
def test_broken_bundles(store: BlobStore, files: dict[str, bytes | None], reason: str) -> None:
    content = {"dataset.json": ABOUT, "items.jsonl": ITEMS, "pairs.jsonl": PAIRS, **files}
    refs: dict[str, blob_pb2.BlobRef] = {
        name: store.put_bytes(data) for name, data in content.items() if data is not None
    }
    with pytest.raises(DataFormatError) as caught:
        datasets.load(bundles.make(refs), store)
    assert reason in caught.value.message
