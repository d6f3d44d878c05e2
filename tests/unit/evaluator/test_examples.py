"""Example results."""

from __future__ import annotations

import json

import numpy as np

from tunevane.core.dataset import Dataset, Item
from tunevane.core.metrics import Judgements
from tunevane_evaluator.examples import Examples

QUERIES = Dataset("items", tuple(Item(f"q{n}", f"query {n}", label=str(n % 3)) for n in range(10)))
DOCUMENTS = Dataset("items", tuple(Item(f"d{n}", f"document {n} é", label=str(n % 3)) for n in range(6)))
JUDGED = Judgements.from_labels(QUERIES.labels, DOCUMENTS.labels)
IDS = np.tile(np.array([4, 1, 2, -1]), (10, 1))
SCORES = np.tile(np.array([0.9, 0.123456789, -0.5, -np.inf], np.float32), (10, 1))


def collect(count: int, seed: int, limit: int = 3, block: int = 10) -> bytes:
    examples = Examples(QUERIES, DOCUMENTS, count, seed, limit)
    for first in range(0, 10, block):
        rows = slice(first, first + block)
        examples.add(first, IDS[rows], SCORES[rows], JUDGED.rows(first, first + len(IDS[rows])))
    return examples.document()


def test_results_are_shown_with_text_score_and_relevance() -> None:
    (shown,) = [query for query in json.loads(collect(10, 0))["queries"] if query["id"] == "q1"]
    assert shown == {
        "id": "q1",
        "text": "query 1",
        "results": [
            {"id": "d4", "text": "document 4 é", "score": 0.9, "relevant": True},
            {"id": "d1", "text": "document 1 é", "score": 0.123457, "relevant": True},
            {"id": "d2", "text": "document 2 é", "score": -0.5, "relevant": False},
        ],
    }


def test_images_are_named() -> None:
    pictures = Dataset("items", (Item("p", image="images/a.png"), Item("b", "both", "images/b.png")))
    judged = Judgements.from_labels(["1"], ["1", "2"])
    examples = Examples(pictures, pictures, 1, 0, 2)
    examples.add(0, np.array([[0, 1]]), np.ones((1, 2), np.float32), judged)
    examples.add(1, np.array([[0, 1]]), np.ones((1, 2), np.float32), judged)
    (shown,) = json.loads(examples.document())["queries"]
    assert [(each["text"], each["image"]) for each in shown["results"]] == [
        (None, "images/a.png"),
        ("both", "images/b.png"),
    ]
    assert shown["image"] in ("images/a.png", "images/b.png")


def test_the_choice_depends_on_the_seed_alone() -> None:
    chosen = [[query["id"] for query in json.loads(collect(4, seed))["queries"]] for seed in (1, 1, 2)]
    assert chosen[0] == chosen[1] != chosen[2]
    assert chosen[0] == sorted(chosen[0])
    assert len(chosen[0]) == 4


def test_blocks_change_nothing() -> None:
    assert collect(5, 3, block=3) == collect(5, 3, block=10)


def test_more_than_there_are_is_all() -> None:
    assert len(json.loads(collect(99, 0, limit=2))["queries"]) == 10
    assert {len(query["results"]) for query in json.loads(collect(99, 0, limit=2))["queries"]} == {2}
