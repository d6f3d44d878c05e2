"""Example results: what a few queries find. Read from their JSON document, and cut to what a page shows.

The document has the form `{evaluation: {"queries": [{"id", "text", "image", "results": [{"id", "text", "image",
"score", "relevant"}]}]}}`. An image is a thumbnail as a data URI; texts and images may be missing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SHOWN_BYTES = 256 * 1024
"""Size limit of the document that a page gets."""

SHOWN_QUERIES, SHOWN_RESULTS, SHOWN_CHARACTERS = 10, 10, 300
"""What a page shows at most: queries of an evaluation, results of a query, characters of a text."""

_THUMBNAIL = re.compile(r"data:image/(?:png|jpeg|webp|gif);base64,[A-Za-z0-9+/]+={0,2}")
_MAX_THUMBNAIL_CHARACTERS = 64 * 1024


@dataclass(frozen=True)
class Match:
    """One result of a query."""

    id: str
    """Id of the document."""

    text: str
    """Its text; empty without one."""

    image: str
    """Its thumbnail as a data URI; empty without one."""

    score: float
    """Similarity to the query; larger is nearer."""

    relevant: bool
    """Whether it is one of those to be found."""


@dataclass(frozen=True)
class Query:
    """A query and what it finds."""

    id: str
    """Id of the query."""

    text: str
    """Its text; empty without one."""

    image: str
    """Its thumbnail as a data URI; empty without one."""

    results: tuple[Match, ...]
    """The nearest documents, nearest first."""

    @property
    def first_relevant(self) -> int | None:
        """Rank of the first relevant result, from 1; None where none is among the results."""
        return next((rank for rank, match in enumerate(self.results, 1) if match.relevant), None)


def read(document: object) -> dict[str, tuple[Query, ...]]:
    """Reads a document; what does not have its form is left out."""
    found = {}
    for name, evaluation in _items(document):
        queries = evaluation.get("queries") if isinstance(evaluation, Mapping) else None
        read_ = tuple(_query(each) for each in _list(queries) if isinstance(each, Mapping))
        if read_:
            found[name] = read_
    return found


def read_json(content: bytes) -> dict[str, tuple[Query, ...]]:
    """Reads a document's bytes; those that are not JSON give nothing."""
    try:
        return read(json.loads(content))
    except (ValueError, RecursionError):
        return {}


def shorten(document: Mapping[str, object], limit_bytes: int = SHOWN_BYTES) -> bytes:
    """Cuts a document to what a page shows: first to counts and lengths, then until it fits.

    Pictures of results go first, those of the last ranks before the others, then queries from the end.

    Returns:
        JSON of at most `limit_bytes`; empty when nothing is left.

    """
    queries, ranks = SHOWN_QUERIES, SHOWN_RESULTS
    for pictures in (SHOWN_RESULTS, 5, 3, 0):
        content = _encode(document, queries, ranks, pictures)
        if len(content) <= limit_bytes:
            return content
    while queries > 1:
        queries, ranks = queries // 2, 5
        content = _encode(document, queries, ranks, 0)
        if len(content) <= limit_bytes:
            return content
    return b""


def _encode(document: Mapping[str, object], queries: int, ranks: int, pictures: int) -> bytes:
    short = {
        name: {
            "queries": [
                {
                    **_shown(query),
                    "results": [
                        {
                            **_shown(match, picture=rank < pictures),
                            "score": match.score,
                            "relevant": match.relevant,
                        }
                        for rank, match in enumerate(query.results[:ranks])
                    ],
                }
                for query in found[:queries]
            ]
        }
        for name, found in read(document).items()
    }
    return json.dumps(short, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode() if short else b""


def _shown(item: Query | Match, *, picture: bool = True) -> dict[str, object]:
    text = item.text if len(item.text) <= SHOWN_CHARACTERS else item.text[: SHOWN_CHARACTERS - 1] + "…"
    shown: dict[str, object] = {"id": item.id[:SHOWN_CHARACTERS], "text": text}
    if item.image and picture:
        shown["image"] = item.image
    return shown


# What a JSON document holds where is known only after looking, hence `Any` below.


def _query(value: Mapping[str, Any]) -> Query:
    results = [each for each in _list(value.get("results")) if isinstance(each, Mapping)]
    return Query(
        _text(value.get("id")), _text(value.get("text")), _image(value.get("image")), tuple(_match(e) for e in results)
    )


def _match(value: Mapping[str, Any]) -> Match:
    score = value.get("score")
    number = float(score) if isinstance(score, int | float) else 0.0
    return Match(
        _text(value.get("id")),
        _text(value.get("text")),
        _image(value.get("image")),
        number,
        value.get("relevant") is True,
    )


def _items(value: object) -> list[tuple[str, Any]]:
    return [(str(name), each) for name, each in value.items()] if isinstance(value, Mapping) else []


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: object) -> str:
    # A lone surrogate is JSON but no text: it could not be sent on.
    return value.encode(errors="replace").decode() if isinstance(value, str) else ""


def _image(value: object) -> str:
    fits = isinstance(value, str) and len(value) <= _MAX_THUMBNAIL_CHARACTERS and _THUMBNAIL.fullmatch(value)
    return str(value) if fits else ""
