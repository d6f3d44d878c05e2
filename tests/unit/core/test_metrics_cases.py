"""The worked numbers of the behaviour that is reproduced, as they are."""

import json
from pathlib import Path
from typing import Any  # the numbers come from JSON

import numpy as np
import pytest

from support import plain_metrics
from tunevane.core.metrics import DEFAULT_METRICS, Judgements, Ranking, evaluate

CASES: dict[str, Any] = json.loads((Path(__file__).parent / "cases.json").read_text(encoding="utf-8"))
UNCUT = ("average_precision", "reciprocal_rank")
"""These see the whole ranking in the worked numbers, whatever k is."""


def one(rel: list[int], total: int) -> tuple[Ranking, Judgements]:
    n = len(rel)
    ranking = Ranking(np.arange(n)[None], -np.arange(float(n))[None])
    extra = total - sum(rel)
    return ranking, Judgements.from_labels(["x"], ["x" if r else "y" for r in rel] + ["x"] * extra)


@pytest.mark.parametrize("case", CASES["single_ranking"])
def test_single_ranking_by_the_plain_definitions(case: dict[str, Any]) -> None:
    assert plain_metrics.reference(case["rel"], case["R"], case["k"]) == pytest.approx(case["expect"], abs=1e-12)


@pytest.mark.parametrize("case", CASES["single_ranking"])
@pytest.mark.parametrize("ties", ["expected", "position"])
def test_single_ranking_by_the_array_code(case: dict[str, Any], ties: Any) -> None:
    ranking, judgements = one(case["rel"], case["R"])
    length = max(len(case["rel"]), 1)
    cut = evaluate(ranking, judgements, limit=case["k"] or length, ties=ties).values
    whole = evaluate(ranking, judgements, limit=length, ties=ties).values
    for name in DEFAULT_METRICS:
        values = whole if name in UNCUT else cut
        assert values[name] == pytest.approx(case["expect"][name], abs=1e-12), name


LABELS = {each["id"]: each["label"] for part in ("index", "query") for each in CASES["pipeline"][part]}
PIPELINES = {name: case for name, case in CASES["pipeline"].items() if name not in ("index", "query")}


@pytest.mark.parametrize("name", PIPELINES)
@pytest.mark.parametrize("ties", ["expected", "position"])
def test_pipeline(name: str, ties: Any) -> None:
    case = PIPELINES[name]
    ranks: dict[str, Any] = case["ranks"]
    searched = {found for each in ranks.values() for found in each["ranked_ids"]}
    index = sorted(searched | {query for query in ranks if query.startswith("i")})
    own = [index.index(query) if query in index and case["exclude_self"] else -1 for query in ranks]
    ids = np.array([[index.index(found) for found in each["ranked_ids"]] for each in ranks.values()])
    scores = np.broadcast_to(-np.arange(float(ids.shape[1])), ids.shape)
    judgements = Judgements.from_labels(
        [LABELS.get(query, "a label of its own") for query in ranks],
        [LABELS[document] for document in index],
        np.array(own),
    )
    assert judgements.relevant.tolist() == [each["R"] for each in ranks.values()]
    assert judgements.find(ids)[0].astype(int).tolist() == [each["rel"] for each in ranks.values()]
    evaluation = evaluate(Ranking(ids, scores), judgements, limit=case["limit"], ties=ties)
    assert evaluation.values == pytest.approx(case["expect_mean"], abs=1e-12)
    assert evaluation.queries_without_relevant == sum(each["R"] == 0 for each in ranks.values())
