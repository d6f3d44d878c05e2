"""Search settings are read, named canonically, and refused with a sentence."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunevane.core.search_settings import (
    MAX_SETTINGS,
    Hnsw,
    Quantization,
    SearchSettings,
    metric_name,
    parse,
    parse_all,
)
from tunevane.errors import InvalidRequestError


@pytest.mark.parametrize(
    ("text", "expected", "name"),
    [
        ("dims=128", SearchSettings(dimensions=128), "dims=128"),
        ("distance=euclidean", SearchSettings(distance="euclidean"), "distance=euclidean"),
        ("hnsw", SearchSettings(hnsw=Hnsw()), "hnsw:m=16"),
        ("hnsw:ef=64, m=16", SearchSettings(hnsw=Hnsw(16, 100, 64)), "hnsw:m=16,ef=64"),
        ("hnsw:ef_construct=200", SearchSettings(hnsw=Hnsw(16, 200)), "hnsw:m=16,ef_construct=200"),
        ("int8", SearchSettings(quantization=Quantization("int8")), "int8"),
        ("int8:oversampling=2.0", SearchSettings(quantization=Quantization("int8")), "int8"),
        ("binary:rescore=no", SearchSettings(quantization=Quantization("binary", 2, False)), "binary:rescore=no"),
        (
            "binary:oversampling=3.5 + hnsw:m=8 + dims=64",
            SearchSettings(dimensions=64, hnsw=Hnsw(8), quantization=Quantization("binary", 3.5)),
            "dims=64+hnsw:m=8+binary:oversampling=3.5",
        ),
    ],
)
def test_settings_are_read_and_named(text: str, expected: SearchSettings, name: str) -> None:
    assert parse(text) == expected
    assert parse(text).name == name


@given(
    st.builds(
        SearchSettings,
        st.none() | st.sampled_from(["cosine", "dot", "euclidean", "sqeuclidean"]),
        st.none() | st.integers(1, 65536),
        st.none() | st.builds(Hnsw, st.integers(4, 256), st.integers(4, 4096), st.none() | st.integers(1, 100_000)),
        st.none()
        | st.builds(
            Quantization,
            st.sampled_from(["int8", "binary"]),
            st.integers(4, 400).map(lambda quarters: quarters / 4),
            st.booleans(),
        ),
    ).filter(lambda settings: settings != SearchSettings())
)
def test_a_name_reads_as_what_it_names(settings: SearchSettings) -> None:
    assert parse(settings.name) == settings
    assert settings.is_exact == (
        "hnsw" not in settings.name and "int8" not in settings.name and "bin" not in settings.name
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "unknown part ''"),
        ("hsnw:m=16", "unknown part 'hsnw:m=16'; there are"),
        ("dims=0", r"'dims=0' needs a whole number in \[1, 65536\], not '0'"),
        ("dims=-3", "not '-3'"),
        ("dims=12.5", "not '12.5'"),
        ("dims", "not ''"),
        ("hnsw:m=2", r"needs a whole number in \[4, 256\], not '2'"),
        ("hnsw:k=2", "unknown option 'k=2'; hnsw takes m, ef_construct, ef"),
        ("hnsw:m=8,m=9", "repeated option 'm=9'"),
        ("hnsw=8", "options after a colon"),
        ("hnsw:", "unknown option ''"),
        ("int8:oversampling=0.5", r"oversampling in \[1, 100\], not '0.5'"),
        ("int8:oversampling=nan", "not 'nan'"),
        ("int8:rescore=maybe", "rescore=yes or rescore=no, not 'maybe'"),
        ("int8+binary", "gives quantization twice"),
        ("distance=hamming", "'distance=hamming' is no distance; there are cosine, dot, euclidean, sqeuclidean"),
    ],
)
def test_what_cannot_be_read_is_refused_with_a_sentence(text: str, sentence: str) -> None:
    with pytest.raises(InvalidRequestError, match=sentence):
        parse(text)


def test_a_list_has_no_repetitions_and_an_end() -> None:
    assert [each.name for each in parse_all(["int8", "dims=8"])] == ["int8", "dims=8"]
    with pytest.raises(InvalidRequestError, match="'hnsw:m=16' are given twice"):
        parse_all(["hnsw", "hnsw:m=16"])
    with pytest.raises(InvalidRequestError, match="17 search settings were given; at most 16"):
        parse_all([f"dims={size}" for size in range(1, MAX_SETTINGS + 2)])
    with pytest.raises(InvalidRequestError, match=r"write \['int8'\]"):
        parse_all("int8")


def test_metrics_are_named_by_settings() -> None:
    assert metric_name("ndcg@10", parse("hnsw:ef=64").name) == "ndcg@10[hnsw:m=16,ef=64]"
