"""Every complaint names the file, the line and the reason."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunevane.errors import DataFormatError
from tunevane.storage.datasets import read

FILES: list[tuple[str, bytes, dict[str, Any], str]] = [
    ("a.csv", b"", {}, "a.csv is empty"),
    ("a.csv", b"\n \n", {}, "a.csv is empty"),
    ("a.csv", b"\xef\xbb\xbf", {}, "a.csv is empty"),
    ("a.csv", b"query,document\n", {}, "a.csv has no lines of data"),
    ("a.csv", b"a,b\n", {"header": True}, "a.csv has no lines of data"),
    ("a.csv", b"a,b\nc,\xff\n", {}, "line 2: is not UTF-8 at byte 6 of the file (0xff)"),
    ("a.csv", b"\xef\xbb\xbfa,b\nc,\xe4\n", {}, "line 2: is not UTF-8 at byte 9 of the file (0xe4)"),
    ("a.csv", "a,b\n".encode("utf-16"), {}, "line 1: is not UTF-8 at byte 0"),
    ("a.csv", b"a,b\nc,d\0\n", {}, "line 2: has a NUL character"),
    ("a.csv", b"a\nb\n", {}, "line 1: has 1 column; needed are two contents"),
    ("a.csv", b"a,b,1,x\n", {}, "line 1: has 4 columns; needed are two contents"),
    ("a.csv", b"a,b,1\n", {"is_labeled": True}, "line 1: has 3 columns; needed are content and label"),
    ("a.csv", b"a,b\n\n\nc,d,e\n", {}, "line 4: has 3 columns where line 1 has 2"),
    ("a.csv", b"a,b\nc\n", {}, "line 2: has 1 column where line 1 has 2"),
    ("a.csv", b'"a\nx",b\nc\n', {}, "line 3: has 1 column where line 1 has 2"),
    ("a.csv", b"a,b\n,d\n", {}, "line 2: has an empty text"),
    ("a.csv", "a,b\nc,\u3000 \n".encode(), {}, "line 2: has an empty text"),
    ("a.csv", b"a,1\nb,\n", {"is_labeled": True}, "line 2: has an empty label"),
    ("a.csv", b"a,b,1\nc,d,high\n", {}, "line 2: has the score 'high', which is no number"),
    ("a.csv", b"a,b,1\nc,d,\n", {}, "line 2: has the score '', which is no number"),
    ("a.csv", b"a,b,nan\n", {}, "line 1: has the score 'nan', which is not finite"),
    ("a.csv", b"a,b,-inf\n", {}, "line 1: has the score '-inf', which is not finite"),
    ("a.csv", b'a,b\nc,"d\ne,f\n', {}, "line 2: has a double quote that is never closed"),
    ("a.csv", b'a,b\nc,"' + b"d\n" * 80_000, {}, "line 2: has a double quote that is never closed"),
    ("a.csv", b'a,b\n"c"d,e\n', {}, "line 2: has unbalanced double quotes"),
    ("a.csv", b"query,score\na,1\n", {}, "line 1: has the column names query,score; use query,document or"),
    ("a.csv", b"query,document,label\na,b,c\n", {}, "line 1: has the column names query,document,label; use query,"),
    ("a.csv", b"query,document,score\na,b\n", {}, "line 2: has 2 columns where line 1 has 3"),
    ("a.xlsx", b"PK", {}, "are read, not '.xlsx'; read it with pandas"),
    ("a.parquet", b"PAR1", {}, "cannot be read as Parquet after row 0"),
    ("a.dat", b"a,b\n", {}, "files that end in .csv, .tsv, .jsonl and .parquet are read, not '.dat'"),
    ("a", b"a,b\n", {}, "files that end in .csv, .tsv, .jsonl and .parquet are read, not 'others'"),
    ("a.csv", b"a,b\nc,d.png\n", {}, "line 2: has the image 'd.png' which is no file here"),
    ("a.csv", b'a,b\nc,"data:image/png;base64,xx=x"\n', {}, "whose base64 is malformed"),
    ("a.csv", b'a,b\nc,"data:image/png;base64,AAAA"\n', {}, "that does not decode: its 3 bytes are in no known format"),
    ("a.jsonl", b'{"image": "a.png"}\n', {}, "line 1: has the image 'a.png' which is no file here"),
    ("a.jsonl", b'{"image": "file:///etc/hostname"}\n', {}, "behind a 'file' address; only http and https are"),
    ("a.jsonl", b'{"image": "a\\u0000.png"}\n', {}, "which is no file here"),
    ("a.jsonl", b'{"image": {"path": 5}}\n', {}, "line 1: has an image of type int"),
    ("a.jsonl", b"\n", {}, "a.jsonl is empty"),
    ("a.jsonl", b'{"text": "a"}\n\n{"text": \n', {}, "line 3: is malformed JSON"),
    ("a.jsonl", b"[" * 100_000, {}, "line 1: is malformed JSON"),
    ("a.jsonl", b'{"text": "a"}\n["b"]\n', {}, "line 2: is ['b'], not a record with named fields"),
    ("a.jsonl", b'{"text": "\\u0000"}\n', {}, "line 1: has a NUL character"),
    ("a.jsonl", b'{"text": "\\ud800"}\n', {}, "line 1: has half of a surrogate pair"),
    ("a.jsonl", b'{"text": "a", "id": "\\ud800"}\n', {}, "line 1: has half of a surrogate pair"),
    ("a.jsonl", b'{"text": "a", "id": "x"}\n\n{"text": "b", "id": "x"}\n', {}, "line 3: has the id 'x' of line 1"),
    ("a.jsonl", b'{"text": "a", "id": 1}\n{"text": "b", "id": "1"}\n', {}, "line 2: has the id '1' of line 1"),
]


@pytest.mark.parametrize(("name", "content", "options", "reason"), FILES, ids=[case[3][:40] for case in FILES])
def test_files(tmp_path: Path, name: str, content: bytes, options: dict[str, Any], reason: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataFormatError) as caught:
        read(path, **options)
    assert str(path) in caught.value.message
    assert reason in caught.value.message
    if reason.startswith("line "):
        assert caught.value.details["line"] == reason.split(":")[0].removeprefix("line ")


RECORDS: list[tuple[list[object], str]] = [
    ([], "the list has no records of data"),
    (["a"], "record 1: is 'a', not a record"),
    ([("a", "b")], "record 1: is ('a', 'b'), not a record"),
    ([{}], "record 1: has no content"),
    ([{"label": 1}], "record 1: has no content"),
    ([{"text": "a"}, {"text": None}], "record 2: has no content"),
    ([{"text": 5}], "record 1: has 5 where a text is needed"),
    ([{"text": ""}], "record 1: has an empty text"),
    ([{"text": "a", "query": "b"}], "record 1: has the two contents 'text' and 'query'"),
    ([{"text": "a", "lable": 1}], "record 1: has the field 'lable'; known are"),
    ([{"text": "a", "label": [1]}], "record 1: a label is [1] of type list"),
    ([{"text": "a", "label": float("nan")}], "record 1: a label is nan"),
    ([{"text": "a", "id": 1.5}], "record 1: has the id 1.5; an id is a text or a whole number"),
    ([{"text": "a", "id": ""}], "record 1: has an empty id"),
    ([{"text": "a", "relevant": ["d1"]}], "record 1: has ['d1'] as 'relevant', which is a mapping"),
    ([{"text": "a", "relevant": {"d1": -1}}], "record 1: has the grade -1 for 'd1'"),
    ([{"text": "a", "relevant": {"d1": "x"}}], "record 1: has the grade 'x', which is no number"),
    ([{"text": "a", "relevant": {"d1": True}}], "record 1: has the grade True, which is no number"),
    (
        [{"query": "a", "document": "b", "label": 1}],
        "record 1: has the field 'label'; a pair has document, query, score",
    ),
    ([{"query": "a", "document": "b", "score": "x"}], "record 1: has the score 'x', which is no number"),
    (
        [{"query": "a", "document": "b", "score": 1}, {"query": "a", "document": "b"}],
        "record 2: has a pair without a score where record 1 has a pair with a score",
    ),
    (
        [{"text": "a"}, {"query": "a", "document": "b"}],
        "record 2: has a pair without a score where record 1 has a single",
    ),
    ([{"text": "a", "image": "a.png"}], "record 1: has the image 'a.png' which is no file here"),
    ([SimpleNamespace(id="x", text="", uri="a.png")], "record 1: has the image 'a.png' which is no file here"),
    ([{"text": "a"}, {"image": b"no picture"}], "record 2: has an image that does not decode: its 10 bytes"),
    ([{"image": b"\x89PNG\r\n\x1a\n" + b"x" * 40}], "record 1: has an image that does not decode"),
    ([{"image": "a.png", "url": "b.png"}], "record 1: has the two contents 'image' and 'url'"),
    ([{"image": np.zeros((2, 2, 7))}], "as an array of shape [2, 2, 7]; [h, w] or [h, w, 3] is needed"),
    ([{"image": np.full((2, 2), 9.0)}], "as an array of numbers outside [0, 1]"),
    ([{"image": np.full((2, 2), 256)}], "with values outside [0, 255]"),
    ([{"image": [1, 2]}], "record 1: has an image of type list; give a path"),
    ([{"query": "a", "document": {"txt": "b"}}], "record 1: has the field 'txt' in one of a pair"),
    ([{"query": "a", "document": {"text": None}}], "record 1: has an empty content"),
]


@pytest.mark.parametrize(("records", "reason"), RECORDS, ids=[case[1][:60] for case in RECORDS])
def test_records(records: list[object], reason: str) -> None:
    with pytest.raises(DataFormatError) as caught:
        read(records)
    assert reason in caught.value.message


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataFormatError, match=r"there is no file .*nowhere\.csv"):
        read(tmp_path / "nowhere.csv")


def test_a_name_that_the_system_refuses(tmp_path: Path) -> None:
    with pytest.raises(DataFormatError, match=r"\.csv cannot be read: File name too long"):
        read(tmp_path / f"{'a' * 300}.csv")


def test_a_folder(tmp_path: Path) -> None:
    with pytest.raises(DataFormatError, match=r"is a folder; give a file that ends in \.csv"):
        read(str(tmp_path))


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "data.csv")
    with pytest.raises(DataFormatError, match="is no regular file"):
        read(tmp_path / "data.csv")


@pytest.mark.parametrize("source", [None, 5, b"a,b", {"text": "a"}])
def test_what_is_no_data(source: object) -> None:
    with pytest.raises(DataFormatError, match="is no data set; give a path, a list of records or a table"):
        read(source)


@settings(deadline=None)
@given(st.text() | st.text(st.sampled_from('a,"\n\r \0\ufeffé\ud800')))
def test_any_text_is_read_or_refused_in_a_sentence(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "anything.csv"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        assert read(path).items
    except DataFormatError as error:
        assert str(path) in error.message  # noqa: PT017  # both ends are fine
