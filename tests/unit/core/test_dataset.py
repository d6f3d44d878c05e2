"""Pairs become labels by union-find, and made-up ids stay apart from those of other sets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunevane.core import dataset
from tunevane.core.dataset import Content, Dataset, Item
from tunevane.errors import DataFormatError, InvalidRequestError

CASES = json.loads(Path(__file__).with_name("cases.json").read_text(encoding="utf-8"))["csv_pairs"]

Edges = list[tuple[int, int]]


@st.composite
def graphs(draw: st.DrawFn) -> tuple[int, Edges]:
    count = draw(st.integers(1, 30))
    node = st.integers(0, count - 1)
    return count, draw(st.lists(st.tuples(node, node), max_size=60))


@pytest.mark.parametrize(("case", "docs", "labels"), [*zip(CASES, (10, 4, 3), (3, 1, 1), strict=True)])
def test_worked_cases(case: dict[str, Any], docs: int, labels: int) -> None:
    data = dataset.from_pairs([tuple(row) for row in case["rows"]])
    assert (len(data.items), len(set(data.labels))) == (docs, labels)
    assert docs == case.get("expect_docs", docs)
    assert labels == case.get("expect_labels", labels)
    assert [[data.texts[a], data.texts[b]] for a, b in data.pairs] == case["rows"]


def components(count: int, edges: Edges) -> list[int]:
    groups = dataset.Groups()
    groups.grow(count)
    for left, right in edges:
        groups.join(left, right)
    return [int(number) for number in groups.numbers()]


@settings(deadline=None)
@given(graphs())
def test_components_are_what_a_walk_reaches(graph: tuple[int, Edges]) -> None:
    count, edges = graph
    neighbours: dict[int, set[int]] = {node: {node} for node in range(count)}
    for left, right in edges:
        neighbours[left].add(right)
        neighbours[right].add(left)
    found = components(count, edges)
    for start in range(count):
        reached, waiting = {start}, [start]
        while waiting:
            new = neighbours[waiting.pop()] - reached
            reached |= new
            waiting += new
        assert reached == {node for node in range(count) if found[node] == found[start]}


@settings(deadline=None)
@given(graphs(), st.randoms(use_true_random=False))
def test_components_do_not_depend_on_the_order_of_pairs(graph: tuple[int, Edges], generator: Any) -> None:
    count, edges = graph
    shuffled = [edge if generator.random() < 0.5 else edge[::-1] for edge in edges]
    generator.shuffle(shuffled)
    assert components(count, shuffled) == components(count, edges)


def test_components_are_numbered_by_first_appearance() -> None:
    assert components(5, [(4, 1), (2, 3)]) == [0, 1, 2, 2, 1]


def test_a_long_chain_is_one_component() -> None:
    chain = [(node, node + 1) for node in reversed(range(100_000 - 1))]
    assert set(components(100_000, chain)) == {0}


@pytest.mark.parametrize(
    ("value", "canonical"),
    [(1, "1"), (1.0, "1"), ("1", "1"), (0, "0"), (-0.0, "0"), (1.5, "1.5"), (np.float32(2), "2"), ("007", "007")],
)
def test_canonical_label(value: object, canonical: str) -> None:
    assert dataset.canonical_label(value) == canonical


@pytest.mark.parametrize("value", [None, float("nan"), float("inf"), ["a"]])
def test_what_cannot_be_a_label(value: object) -> None:
    with pytest.raises(InvalidRequestError, match="labels must be"):
        dataset.canonical_label(value)


def test_made_up_ids_differ_between_sets_and_repeat_within_one() -> None:
    rows = [("a", 1), ("b", 2)]
    first, same, other = (dataset.from_labelled(r) for r in (rows, rows, [("a", 1), ("b", 3)]))
    assert first == same
    assert not {item.id for item in first.items} & {item.id for item in other.items}


def test_labels_of_two_sets_of_pairs_are_not_mixed_up() -> None:
    first, other = dataset.from_pairs([("a", "b")]), dataset.from_pairs([("a", "c")])
    assert not set(first.labels) & set(other.labels)


def test_a_score_is_no_label() -> None:
    data = dataset.from_scored([("a", "b", 0.0), ("a", "c", 1.5)])
    assert data.kind == "scored"
    assert data.labels == (None, None, None)
    assert data.pairs.tolist() == [[0, 1], [0, 2]]
    assert data.scores is not None
    assert data.scores.tolist() == [0.0, 1.5]


def test_equality_looks_into_arrays() -> None:
    rows = [("a", "b", 0.5)]
    assert dataset.from_scored(rows) == dataset.from_scored(rows)
    assert dataset.from_scored(rows) != dataset.from_scored([("a", "b", 0.25)])
    assert dataset.from_scored(rows) != dataset.from_pairs([("a", "b")])
    assert dataset.from_scored(rows) != "a"
    with pytest.raises(TypeError, match="unhashable"):
        hash(dataset.from_scored(rows))


def test_texts_and_images_of_a_set_with_both() -> None:
    mixed = Dataset("items", (Item("t", "text"), Item("p", image="p.png"), Item("b", "both", image="b.png")))
    with pytest.raises(InvalidRequestError, match="the item 'p' has no text"):
        _ = mixed.texts
    with pytest.raises(InvalidRequestError, match="the item 't' has no image"):
        _ = mixed.images
    assert Dataset("items", mixed.items[1:]).images == ("p.png", "b.png")


def test_an_image_joins_the_texts_that_it_is_paired_with() -> None:
    picture, other = Content(image="images/a.png"), Content(image="images/b.png")
    data = dataset.from_pairs([("one", picture), (picture, "two"), (other, "three"), (Content("one"), "four")])
    assert len(data.items) == 6
    labels = {item.text or item.image: item.label for item in data.items}
    assert labels["one"] == labels["images/a.png"] == labels["two"] == labels["four"] != labels["three"]
    assert labels["three"] == labels["images/b.png"]


def test_a_text_and_an_image_of_the_same_name_are_two_contents() -> None:
    data = dataset.from_pairs([("a.png", Content(image="a.png")), ("a.png", Content("a.png", "a.png"))])
    assert [(item.text, item.image) for item in data.items] == [("a.png", None), (None, "a.png"), ("a.png", "a.png")]


ITEMS = (Item("a", "x"), Item("b", "y"))
PAIR = np.array([[0, 1]])


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (Dataset("items", ()), "is empty"),
        (Dataset("items", (*ITEMS, Item("a", "z"))), "has the id 'a' more than once"),
        (Dataset("items", ITEMS, PAIR), "kind 'items' and 1 pairs"),
        (Dataset("pairs", ITEMS), "kind 'pairs' and 0 pairs"),
        (Dataset("pairs", ITEMS, np.array([[0, 2]])), "outside its 2"),
        (Dataset("pairs", ITEMS, np.array([[-1, 1]])), "outside its 2"),
        (Dataset("pairs", ITEMS, np.array([0, 1])), "two columns are needed"),
        (Dataset("pairs", ITEMS, PAIR, np.array([1.0])), "only 'scored' has scores"),
        (Dataset("scored", ITEMS, PAIR), "only 'scored' has scores"),
        (Dataset("scored", ITEMS, PAIR, np.array([1.0, 2.0])), "one finite score for each"),
        (Dataset("scored", ITEMS, PAIR, np.array([np.nan])), "one finite score for each"),
        (Dataset("triples", ITEMS), "unknown kind 'triples'"),  # type: ignore[arg-type]
    ],
)
def test_broken_sets(data: Dataset, reason: str) -> None:
    with pytest.raises(DataFormatError, match=reason):
        dataset.checked(data)
