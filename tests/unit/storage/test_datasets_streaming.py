"""Sets larger than memory go straight into a bundle's files, and splits keep together what belongs together."""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tunevane.errors import DataFormatError
from tunevane.storage import datasets
from tunevane.storage.blobs import BlobStore

words = st.sampled_from([f"text {n}" for n in range(12)])


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> BlobStore:
    return BlobStore(tmp_path_factory.mktemp("blobs"))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.one_of(
        st.lists(st.fixed_dictionaries({"query": words, "document": words}), min_size=1, max_size=20),
        st.lists(
            st.fixed_dictionaries({"query": words, "document": words, "score": st.floats(-1, 1)}),
            min_size=1,
            max_size=20,
        ),
        st.lists(st.fixed_dictionaries({"text": words, "label": words}), min_size=1, max_size=20),
    )
)
def test_streaming_gives_what_reading_gives(store: BlobStore, rows: list[dict[str, object]]) -> None:
    bundle = datasets.write(iter(rows), store)
    assert datasets.load(bundle, store) == datasets.read(rows)
    assert datasets.save(datasets.read(rows), store) == bundle


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(words, words), min_size=2, max_size=20), st.integers(0, 5))
def test_pairs_are_split_by_group(store: BlobStore, rows: list[tuple[str, str]], seed: int) -> None:
    records = [{"query": first, "document": second} for first, second in rows]
    whole = datasets.read(records)
    groups = len(set(whole.labels))
    if not 0 < round(0.3 * groups) < groups:
        with pytest.raises(DataFormatError, match="leaves one part empty"):
            datasets.write_split(records, store, val_split=0.3, seed=seed)
        return
    bundles = datasets.write_split(records, store, val_split=0.3, seed=seed)
    assert datasets.write_split(records, store, val_split=0.3, seed=seed) == bundles
    train, held_out = (datasets.load(each, store) for each in bundles)
    ids = [{item.id for item in part.items} for part in (train, held_out, whole)]
    assert not ids[0] & ids[1]
    assert ids[0] | ids[1] == ids[2]
    assert len(train.pairs) + len(held_out.pairs) == len(rows)
    assert len(set(held_out.labels)) == round(0.3 * groups)
    assert not set(train.labels) & set(held_out.labels)
    found = sorted((part.texts[a], part.texts[b]) for part in (train, held_out) for a, b in part.pairs)
    assert found == sorted(rows)


@pytest.mark.parametrize("kind", ["items", "scored"])
def test_other_kinds_are_split_by_row(store: BlobStore, kind: str) -> None:
    records: list[dict[str, object]] = [{"text": f"t{n}", "label": n % 3} for n in range(40)]
    if kind == "scored":
        records = [{"query": f"q{n}", "document": "d", "score": n / 40} for n in range(40)]
    train, held_out = (datasets.load(each, store) for each in datasets.write_split(records, store, val_split=0.25))
    size = [len(part.items) if kind == "items" else len(part.pairs) for part in (train, held_out)]
    assert (train.kind, held_out.kind, size) == (kind, kind, [30, 10])
    other = datasets.write_split(records, store, val_split=0.25, seed=1)[1]
    assert datasets.load(other, store) != held_out


def test_a_split_takes_only_the_images_that_it_shows(store: BlobStore) -> None:
    import numpy as np

    records = [{"image": np.full((2, 2), n, np.uint8)} for n in range(4)]
    for bundle, count in zip(datasets.write_split(records, store, val_split=0.25), (3, 1), strict=True):
        assert len([file for file in bundle.files if file.path.startswith("images/")]) == count


@pytest.mark.parametrize("share", [0.0, 1.0, -1.0, float("nan")])
def test_a_share_that_is_none(store: BlobStore, share: float) -> None:
    with pytest.raises(DataFormatError, match="val_split must be larger than 0 and smaller than 1"):
        datasets.write_split([{"text": "a"}], store, val_split=share)


def test_rows_are_read_one_by_one(store: BlobStore) -> None:
    def rows() -> Iterator[dict[str, str]]:
        yield {"query": "a", "document": "b"}
        yield {"query": "a", "document": ""}
        raise AssertionError("read on after a bad row")

    with pytest.raises(DataFormatError, match="record 2: has an empty text"):
        datasets.write(rows(), store)


_PUSH = """
import resource, sys
from pathlib import Path
from tunevane.storage import datasets
from tunevane.storage.blobs import BlobStore
datasets.write([{"query": "a", "document": "b"}], BlobStore(Path(sys.argv[2]) / "warm"))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
bundle = datasets.write(Path(sys.argv[1]), BlobStore(Path(sys.argv[2])))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, sum(f.blob.size_bytes for f in bundle.files))
"""


@pytest.mark.parametrize(
    "megabytes", [pytest.param(130), pytest.param(1500, marks=pytest.mark.nightly)], ids=["small", "large"]
)
def test_memory_does_not_grow_with_the_file(tmp_path: Path, megabytes: int) -> None:
    filler = "lorem ipsum dolor sit amet " * 370
    with (tmp_path / "large.csv").open("w") as file:
        for number in range(megabytes * 50):
            file.write(f"query {number} {filler},document {number} {filler}\n")
    command = [sys.executable, "-c", _PUSH, str(tmp_path / "large.csv"), str(tmp_path / "blobs")]
    grown, size = map(int, subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())
    assert size > megabytes * 1e6 * 0.9
    unit = 1 if sys.platform == "darwin" else 1024
    assert grown * unit < 100e6, resource.getpagesize()
