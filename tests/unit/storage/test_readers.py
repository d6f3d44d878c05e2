"""What each kind of source is understood as."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets as hugging
import numpy as np
import pandas
import polars
import pytest

from support.documents import BaseDoc, DocList, TextDoc
from tunevane.core.dataset import Dataset, Item
from tunevane.storage.datasets import read


def csv(tmp_path: Path, text: str, name: str = "data.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(text.encode())
    return path


def as_pairs(data: Dataset) -> list[tuple[str, str]]:
    return [(data.texts[a], data.texts[b]) for a, b in data.pairs]


def as_labelled(data: Dataset) -> list[tuple[str, str | None]]:
    return list(zip(data.texts, data.labels, strict=True))


@pytest.mark.parametrize(
    ("text", "header", "expected"),
    [
        ("a,b\nc,d\n", None, [("a", "b"), ("c", "d")]),
        ("a,b\r\nc,d", None, [("a", "b"), ("c", "d")]),
        ("a,b\rc,d\r", None, [("a", "b"), ("c", "d")]),
        ("\ufeffa,b\n\nc,d\n\n", None, [("a", "b"), ("c", "d")]),
        ("query,document\na,b\n", None, [("a", "b")]),
        (" Document , QUERY\na,b\n", None, [("b", "a")]),
        ("query,document\na,b\n", False, [("query", "document"), ("a", "b")]),
        ("left,right\na,b\n", True, [("a", "b")]),
        ("left,right\na,b\n", None, [("left", "right"), ("a", "b")]),
        ('"a, ""1""\nx",b\n', None, [('a, "1"\nx', "b")]),
        ('5" pipe,b\n', None, [('5" pipe', "b")]),
        ("a\u2028x,b\n", None, [("a\u2028x", "b")]),
        ("a,a\n", None, [("a", "a")]),
    ],
)
def test_csv_pairs(tmp_path: Path, text: str, header: bool | None, expected: list[tuple[str, str]]) -> None:
    data = read(csv(tmp_path, text), header=header)
    assert data.kind == "pairs"
    assert as_pairs(data) == expected


@pytest.mark.parametrize(
    ("text", "is_labeled", "expected"),
    [
        ("a,1\na,2\n", True, [("a", "1"), ("a", "2")]),
        ("query,label\na,1\n", False, [("a", "1")]),
        ("label,document\n007,a\n", True, [("a", "007")]),
    ],
)
def test_csv_labelled(tmp_path: Path, text: str, is_labeled: bool, expected: list[tuple[str, str]]) -> None:
    data = read(str(csv(tmp_path, text)), is_labeled=is_labeled)
    assert data.kind == "items"
    assert as_labelled(data) == expected


@pytest.mark.parametrize("text", ["a,b,0\nc,d,-1.5e0\n", "score,document,query\n0,b,a\n-1.5,d,c\n"])
def test_csv_scored(tmp_path: Path, text: str) -> None:
    data = read(csv(tmp_path, text))
    assert data.kind == "scored"
    assert as_pairs(data) == [("a", "b"), ("c", "d")]
    assert data.scores is not None
    assert data.scores.tolist() == [0.0, -1.5]


def test_column_names_win_over_is_labeled(tmp_path: Path) -> None:
    assert as_pairs(read(csv(tmp_path, "query,document\na,b\n"), is_labeled=True)) == [("a", "b")]


def test_tsv(tmp_path: Path) -> None:
    assert as_pairs(read(csv(tmp_path, "a, x\tb\n", "data.TSV"))) == [("a, x", "b")]


def test_jsonl_with_judgements(tmp_path: Path) -> None:
    text = (
        '{"id": "q1", "text": "a", "relevant": {"d1": 2, "d2": 0}}\n\n{"id": 7, "query": "b\\u2028", "label": null}\n'
    )
    data = read(csv(tmp_path, text, "queries.jsonl"))
    assert data.items == (Item("q1", "a", relevant={"d1": 2.0, "d2": 0.0}), Item("7", "b\u2028"))


@pytest.mark.parametrize("label", [1, 1.0, "1", np.int64(1), np.float32(1)])
def test_records_with_one_label_however_written(label: object) -> None:
    data = read([{"text": "a", "label": label}, {"content": "b", "label": "1"}])
    assert as_labelled(data) == [("a", "1"), ("b", "1")]


def test_records_may_come_from_a_generator() -> None:
    assert as_pairs(read({"query": t, "document": t.upper()} for t in "ab")) == [("a", "A"), ("b", "B")]


def test_a_grade_of_none_is_no_judgement() -> None:
    assert read([{"id": "q", "text": "a", "relevant": {"d1": None, "d2": 0}}]).items[0].relevant == {"d2": 0.0}


def test_a_data_set_is_returned_as_it_is() -> None:
    data = read([{"text": "a"}])
    assert read(data) is data


ROWS: list[dict[str, Any]] = [{"text": "a", "label": 1.0}, {"text": "b", "label": None}]


@pytest.mark.parametrize(
    "table",
    [pandas.DataFrame(ROWS), polars.DataFrame(ROWS), hugging.Dataset.from_list(ROWS)],
    ids=["pandas", "polars", "datasets"],
)
def test_tables(table: object) -> None:
    assert as_labelled(read(table)) == [("a", "1"), ("b", None)]


def test_a_streamed_table() -> None:
    streamed = hugging.IterableDataset.from_generator(lambda: iter(ROWS))
    assert as_labelled(read(streamed)) == [("a", "1"), ("b", None)]


def test_a_pandas_table_of_pairs() -> None:
    table = pandas.DataFrame({"text": ["a", "b"], "label": [1, None], "id": ["x", "y"]})
    assert read(table).items == (Item("x", "a", label="1"), Item("y", "b"))
    pairs = pandas.DataFrame({"query": ["a"], "document": ["b"], "score": [0.5]})
    assert read(pairs).kind == "scored"


def test_parquet(tmp_path: Path) -> None:
    rows = [{"query": f"query {n}", "document": f"document {n % 7}"} for n in range(1500)]
    pandas.DataFrame(rows).to_parquet(tmp_path / "pairs.parquet")
    assert as_pairs(read(tmp_path / "pairs.parquet")) == [(row["query"], row["document"]) for row in rows]


class OldDocument(BaseDoc):
    text: str
    tags: dict[str, Any]


def test_docarray_documents() -> None:
    tags: list[dict[str, Any]] = [{"finetuner_label": 3.0}, {"other": 1}]
    old: Any = OldDocument  # its fields take more than their types say
    given = [old(id=name, text=text, tags=each) for name, text, each in zip("xy", "ab", tags, strict=True)]
    assert read(DocList[OldDocument](given)).items == (Item("x", "a", label="3"), Item("y", "b"))


class Pair(BaseDoc):
    query: str
    document: TextDoc


def test_docarray_pairs() -> None:
    given = DocList[Pair](Pair(query=q, document=TextDoc(text=d)) for q, d in ("ac", "bd"))
    assert as_pairs(read(given)) == [("a", "c"), ("b", "d")]
