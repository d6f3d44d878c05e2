"""The metrics against the specification's numbers, and ties against enumeration of all orders."""

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunevane.core import scoring as metrics
from tunevane.core.scoring import Judgements, Ranking
from tunevane.errors import InvalidRequestError

CASES = json.loads((Path(__file__).parent / "cases.json").read_text())
STANDARD = ["ndcg@3", "map@3", "map_min@3", "mrr@3", "recall@3", "precision@3", "hit@3", "dcg@3", "r_precision"]


def single(rel: list[int], relevant: int, scores: list[float] | None = None) -> tuple[Ranking, Judgements]:
    """A ranking of one query over an index that holds `relevant` relevant documents."""
    ids = np.arange(len(rel))[None]
    extra = max(relevant - sum(rel), 0)
    labels = ["yes" if each else "no" for each in rel] + ["yes"] * extra
    given_scores = -np.arange(len(rel), dtype=float) if scores is None else np.array(scores)
    return Ranking(ids, given_scores[None]), Judgements.from_labels(["yes"], labels)


@pytest.mark.parametrize("case", CASES["single_ranking"])
def test_the_reference_set_gives_the_specified_numbers(case: dict[str, Any]) -> None:
    ranking, judged = single(case["rel"], case["R"])
    whole = len(case["rel"])
    got = metrics.evaluate(ranking, judged, limit=case["k"] or whole).values
    uncut = metrics.evaluate(ranking, judged, limit=whole).values
    # The specification's numbers for these two are of the whole list, whatever k.
    got |= {name: uncut[name] for name in ("average_precision", "reciprocal_rank")}
    expected = {name: case["expect"][name] for name in metrics.DEFAULT_METRICS}
    assert got == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", [name for name in CASES["pipeline"] if name.startswith("E")])
def test_the_pipeline_gives_the_specified_numbers(name: str) -> None:
    case, pipeline = CASES["pipeline"][name], CASES["pipeline"]
    if "ranks" not in case or "expect_mean" not in case:
        pytest.fail(f"the case {name} has another shape")
    index = case.get("index", pipeline["index"])
    position_of = {item["id"]: place for place, item in enumerate(index)}
    rows = list(case["ranks"].values())
    width = max(len(row["ranked_ids"]) for row in rows)
    ids = np.array(
        [[position_of[each] for each in row["ranked_ids"]] + [-1] * (width - len(row["ranked_ids"])) for row in rows]
    )
    grades = []
    for row, places in zip(rows, ids, strict=True):
        found = {int(place): 1.0 for place, rel in zip(places, row["rel"], strict=False) if rel}
        others = [place for place in range(1000, 1000 + row["R"] - len(found))]
        grades.append(found | {place: 1.0 for place in others})
    scores = np.broadcast_to(-np.arange(width, dtype=float), ids.shape)
    result = metrics.evaluate(Ranking(ids, scores), Judgements.from_qrels(grades), limit=case["limit"])
    assert result.values == pytest.approx(case["expect_mean"], abs=1e-12)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([3.0, 2.0, 1.0]), st.booleans()), min_size=1, max_size=6),
    st.integers(1, 6),
    st.integers(0, 2),
)
def test_expected_ties_are_the_mean_over_all_orders(rows: list[tuple[float, bool]], limit: int, unseen: int) -> None:
    rows = sorted(rows, key=lambda row: -row[0])
    scores = [score for score, _ in rows]
    names = [*metrics.DEFAULT_METRICS, *STANDARD]
    relevant = sum(rel for _, rel in rows) + unseen
    ranking, judged = single([int(rel) for _, rel in rows], relevant, scores)
    expected = metrics.evaluate(ranking, judged, names, limit=limit).values
    sums = dict.fromkeys(names, 0.0)
    orders = [order for order in itertools.permutations(rows) if [s for s, _ in order] == scores]
    for order in orders:
        one, judged_one = single([int(rel) for _, rel in order], relevant, scores)
        values = metrics.evaluate(one, judged_one, names, limit=limit, ties="position").values
        sums = {name: sums[name] + values[name] for name in names}
    assert expected == pytest.approx({name: total / len(orders) for name, total in sums.items()}, abs=1e-12)


def test_a_collapsed_model_scores_its_true_expectation() -> None:
    documents, relevant, limit = 400, 4, 10
    labels = ["yes"] * relevant + ["no"] * (documents - relevant)
    ranking = Ranking(np.arange(documents)[None], np.zeros((1, documents)))
    result = metrics.evaluate(
        ranking, Judgements.from_labels(["yes"], labels), ["precision@10", "recall@10"], limit=limit
    )
    assert result.values["precision@10"] == pytest.approx(relevant / documents)
    assert result.values["recall@10"] == pytest.approx(limit / documents)
    assert result.collapsed_fraction == 1.0


def test_labels_are_counted_without_the_query_itself() -> None:
    judged = Judgements.from_labels(["a", "b", None], ["a", "a", "b", None], np.array([0, 2, 3]))
    assert judged.relevant.tolist() == [1, 0, 0]


def test_graded_judgements_follow_trec_eval() -> None:
    # ndcg with gains 3, 0, 1 at ranks 1, 2, 3 and an ideal of 3, 2, 1.
    judged = Judgements.from_qrels([{0: 3.0, 2: 1.0, 7: 2.0}])
    ranking = Ranking(np.array([[0, 1, 2]]), np.array([[3.0, 2.0, 1.0]]))
    value = metrics.evaluate(ranking, judged, ["ndcg@3"], limit=3).values["ndcg@3"]
    assert value == pytest.approx((3 + 1 / 2) / (3 + 2 / np.log2(3) + 1 / 2), abs=1e-12)


def test_several_cutoffs_come_from_one_search() -> None:
    assert metrics.full_names(["recall@1,10", "mrr@5"]) == ["recall@1", "recall@10", "mrr@5"]
    assert metrics.required_depth(["recall@1,10", "average_precision"], 7) == 10


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("ndgc@10", "did you mean 'ndcg'"),
        ("ndcg", "needs a cut-off"),
        ("ndcg@0", "must be in"),
        ("hit_at_k@3", "takes no cut-off"),
    ],
)
def test_a_wrong_metric_gets_one_sentence(written: str, words: str) -> None:
    with pytest.raises(InvalidRequestError, match=words):
        metrics.describe(written)
