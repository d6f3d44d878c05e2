"""Turns the tables and documents of other libraries into records, without importing these libraries."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

_FIELDS = ("id", "text", "content", "query", "document", "label", "score", "relevant", "image")
_IMAGES = ("bytes_", "blob", "tensor", "uri", "url")
_LABEL_TAGS = ("finetuner_label", "label")
_SLICE_ROWS = 1024


# Any: objects of libraries that are not there when this is checked.
def rows(table: Any) -> Iterable[object] | None:
    """Lists the rows of a pandas, polars or `datasets` table, a slice at a time; None if it is none of them."""
    if isinstance(table, list | tuple | Mapping):
        return None
    if hasattr(table, "columns") and hasattr(table, "notna"):  # pandas, where a missing value is NaN
        return _pandas(table)
    if hasattr(table, "iter_rows") and hasattr(table, "columns"):  # polars
        found: Iterable[object] = table.iter_rows(named=True)
        return found
    if hasattr(table, "column_names") and hasattr(table, "features"):  # `datasets`, in memory or streamed
        streamed: Iterable[object] = iter(table)
        return streamed
    return None


def _pandas(table: Any) -> Iterator[object]:
    for start in range(0, len(table), _SLICE_ROWS):
        some = table.iloc[start : start + _SLICE_ROWS].astype(object)
        yield from some.where(some.notna(), None).to_dict("records")


def record(document: Any) -> object:
    """Turns a docarray document into a record; leaves everything else as it is."""
    if isinstance(document, Mapping) or not hasattr(document, "id"):
        return document
    # Old documents have '' and b'' where there is nothing; both have None elsewhere.
    fields = {name: value for name in _FIELDS if not _is_nothing(value := getattr(document, name, None))}
    if "text" in fields or ("content" in fields and not isinstance(fields["content"], str)):
        fields.pop("content", None)  # the same by its other name
    for name in ("query", "document", "image"):
        if hasattr(fields.get(name), "id"):
            fields[name] = _nested(fields[name])
    if "query" in fields and "document" in fields:
        fields.pop("id", None)  # documents always have one; pairs have none
    elif "image" not in fields:
        picture = _picture(document)
        if picture is not None:
            fields["image"] = picture
    tags = getattr(document, "tags", None)
    if isinstance(tags, Mapping) and "label" not in fields:
        fields["label"] = next((tags[tag] for tag in _LABEL_TAGS if tag in tags), None)
    return fields


def _nested(document: Any) -> object:
    """Turns a document inside a document into a text, an image, or a mapping of both."""
    text, picture = getattr(document, "text", None), _picture(document)
    if _is_nothing(text):
        return picture
    return text if picture is None else {"text": text, "image": picture}


def _picture(document: Any) -> object:
    for name in _IMAGES:
        value = getattr(document, name, None)
        if not _is_nothing(value):
            return value
    return None


def _is_nothing(value: object) -> bool:
    return value is None or (isinstance(value, str | bytes) and not value)
