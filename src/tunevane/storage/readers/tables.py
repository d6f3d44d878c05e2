"""Turns the tables and documents of other libraries into records, without importing these libraries."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

_FIELDS = ("id", "text", "content", "query", "document", "label", "score", "relevant")
_IMAGES = ("image", "tensor", "blob", "uri", "url")
_LABEL_TAGS = ("finetuner_label", "label")


# Any: objects of libraries that are not there when this is checked.
def rows(table: Any) -> Iterable[object] | None:
    """Lists the rows of a pandas, polars or `datasets` table; None if it is none of them."""
    if isinstance(table, list | tuple | Mapping):
        return None
    if hasattr(table, "columns") and hasattr(table, "notna"):  # pandas, where a missing value is NaN
        records: list[object] = table.astype(object).where(table.notna(), None).to_dict("records")
        return records
    for method in ("to_dicts", "to_list"):  # polars; `datasets`
        if hasattr(table, method) and (hasattr(table, "columns") or hasattr(table, "column_names")):
            found: list[object] = getattr(table, method)()
            return found
    return None


def record(document: Any) -> object:
    """Turns a docarray document into a record; leaves everything else as it is."""
    if isinstance(document, Mapping) or not (hasattr(document, "id") and hasattr(document, "__class__")):
        return document
    # Old documents have '' where there is no text; both have None elsewhere.
    fields = {name: value for name in _FIELDS if (value := getattr(document, name, None)) not in (None, "")}
    if "text" in fields:
        fields.pop("content", None)  # the same text by its other name
    else:
        fields |= {name: value for name in _IMAGES if (value := getattr(document, name, None)) is not None}
    if "query" in fields and "document" in fields:
        fields.pop("id", None)  # documents always have one; pairs have none
    tags = getattr(document, "tags", None)
    if isinstance(tags, Mapping) and "label" not in fields:
        fields["label"] = next((tags[tag] for tag in _LABEL_TAGS if tag in tags), None)
    return fields
