"""Documents of example results: read with suspicion, and cut to size."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunevane.core.examples import Query, read, read_json, shorten

PICTURE = "data:image/png;base64," + "A" * 8000


def document(queries: int = 3, results: int = 4, text: str = "a text", image: str = "") -> dict[str, object]:
    extra = {"image": image} if image else {}
    rows = [
        {
            "id": f"q{q}",
            "text": text,
            **extra,
            "results": [
                {"id": f"d{r}", "text": text, "score": 1 - r / 10, "relevant": r == 2, **extra} for r in range(results)
            ],
        }
        for q in range(queries)
    ]
    return {"minilm": {"queries": rows}}


def test_a_document_is_read() -> None:
    (query, _, _) = read(document())["minilm"]
    assert (query.id, query.text, query.image, len(query.results)) == ("q0", "a text", "", 4)
    assert query.first_relevant == 3
    assert Query("q", "", "", ()).first_relevant is None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["queries", "results", "id"]), inner),
    max_leaves=10,
)


@given(json_values)
def test_anything_else_is_read_too(value: object) -> None:
    read(value)
    read({"minilm": value})
    read_json(json.dumps(value).encode())


@pytest.mark.parametrize("content", [b"", b"no", b"[" * 100_000, b"\xff", b'{"a": {"queries": [{"text": "\\ud800"}]}}'])
def test_bytes_that_are_no_document_give_nothing_that_harms(content: bytes) -> None:
    for queries in read_json(content).values():
        for query in queries:
            query.text.encode()


@pytest.mark.parametrize(
    "image", ["https://example.com/a.png", "data:text/html;base64,AAAA", "data:image/svg+xml;base64,AAAA", "x" * 99, 5]
)
def test_only_small_pictures_in_the_document_itself_are_shown(image: object) -> None:
    made = {"m": {"queries": [{"id": "q", "image": image, "results": []}]}}
    assert read(made)["m"][0].image == ""
    assert read(document(image=PICTURE))["minilm"][0].image == PICTURE


def test_a_short_document_stays_as_it_is() -> None:
    assert read_json(shorten(document(image=PICTURE[:200]))) == read(document(image=PICTURE[:200]))


def test_counts_and_lengths_are_cut() -> None:
    (queries,) = read_json(shorten(document(50, 50, "long " * 1000))).values()
    assert len(queries) == 10
    assert len(queries[0].results) == 10
    assert len(queries[0].text) == 300


@pytest.mark.parametrize("limit", [100, 2_000, 50_000, 100_000, 500_000])
def test_a_document_fits_its_limit_and_loses_pictures_of_last_ranks_first(limit: int) -> None:
    content = shorten(document(10, 10, image=PICTURE), limit)
    assert len(content) <= limit
    for queries in read_json(content).values():
        for query in queries:
            shown = [bool(match.image) for match in query.results]
            assert shown == sorted(shown, reverse=True)


def test_nothing_gives_nothing() -> None:
    assert shorten({}) == b""
    assert shorten({"m": {"queries": []}}) == b""
