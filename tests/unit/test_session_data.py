"""What `fit` makes of data, before anything is sent."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tunevane import session
from tunevane.client.connection import Connection
from tunevane.errors import InvalidRequestError
from tunevane.storage import datasets
from tunevane.storage.blobs import BlobStore

RECORDS = [{"query": f"query {n}", "document": f"document {n}"} for n in range(20)]


@pytest.fixture
def attacher(tmp_path: Path) -> session._Attacher:
    # Of a connection only the folder of files is used here.
    return session._Attacher(cast("Connection", SimpleNamespace(store=BlobStore(tmp_path))), False)


def sizes(attacher: session._Attacher, *given: Any) -> list[int]:
    store = attacher._connection.store
    return [0 if each is None else len(datasets.load(each, store).pairs) for each in attacher.train(*given)]


def test_a_part_is_held_out(attacher: session._Attacher) -> None:
    assert sizes(attacher, RECORDS, None, 0.25, 0) == [15, 5]
    assert sizes(attacher, RECORDS, None, None, 0) == [20, 0]
    assert sizes(attacher, RECORDS, RECORDS[:3], None, 0) == [20, 3]


@pytest.mark.parametrize(
    ("data", "eval_data", "share", "message"),
    [
        (RECORDS, RECORDS, 0.1, "val_split: and eval_data exclude each other"),
        (RECORDS, None, 0.0, "val_split: must be in \\(0, 1\\), not 0.0"),
        (RECORDS, None, 1.5, "val_split: must be in \\(0, 1\\), not 1.5"),
        ("products", None, 0.1, "val_split: needs the data itself, and 'products' is no file"),
    ],
)
def test_splits_that_cannot_be(
    attacher: session._Attacher, data: object, eval_data: object, share: float, message: str
) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        attacher.train(data, eval_data, share, 0)
