"""Names, cut-offs, labels, blocks, plug-ins, and one sentence for each kind of bad input."""

import math
from typing import Any  # deliberately wrong inputs

import numpy as np
import pytest

from tunevane import plugins
from tunevane.core.metrics import (
    DEFAULT_METRICS,
    Judgements,
    Metric,
    Ranking,
    Results,
    combine,
    describe,
    evaluate,
    evaluation,
    list_metrics,
    registry,
    required_depth,
)
from tunevane.core.metrics.labels import canonical
from tunevane.errors import InvalidRequestError

IDS = np.array([[0, 1, 2], [2, 1, -1]])
SCORES = np.array([[3.0, 2.0, 2.0], [1.0, 0.5, 0.0]])
JUDGED = Judgements.from_labels(["a", "b"], ["a", "b", "a", "c"])


def test_default_names_in_the_reported_order() -> None:
    assert list(evaluate(Ranking(IDS, SCORES), JUDGED, limit=3).values) == [
        "precision_at_k",
        "recall_at_k",
        "f1_score_at_k",
        "hit_at_k",
        "average_precision",
        "reciprocal_rank",
        "dcg_at_k",
    ]


def test_a_name_may_hold_several_cutoffs() -> None:
    values = evaluate(Ranking(IDS, SCORES), JUDGED, ["recall@1,10,100", "ndcg@10", "recall@1"], limit=3).values
    assert list(values) == ["recall@1", "recall@10", "recall@100", "ndcg@10"]


@pytest.mark.parametrize(
    ("metrics", "limit", "depth"),
    [(None, 20, 20), (["ndcg@10"], 20, 10), (["recall@1,100", "ndcg@5"], 20, 100), (["hit_at_k", "mrr@3"], 7, 7)],
)
def test_the_search_goes_as_deep_as_the_largest_cutoff(metrics: list[str] | None, limit: int, depth: int) -> None:
    assert required_depth(metrics, limit) == depth


def test_r_precision_wants_all_relevant() -> None:
    judged = Judgements.from_labels(["a"], ["a"] * 30)
    assert required_depth(["r_precision"], 20) == 20
    assert required_depth(["r_precision"], 20, judged) == 30


def test_every_metric_describes_itself() -> None:
    infos = list_metrics()
    assert [info.name for info in infos[:7]] == list(DEFAULT_METRICS)
    for info in infos:
        assert info.direction == "max"
        assert info.range[0] == 0.0
        assert info.formula
        assert info.summary.endswith(".")
    assert describe("ndcg@10").name == "ndcg@10"
    assert describe("ndcg@k").formula == describe("ndcg@10").formula
    assert describe("dcg_at_k").range == (0.0, math.inf)


def test_ours_are_registered_like_anybodys() -> None:
    assert {name: plugins.load("metrics", name) for name in registry._OURS} == registry._OURS


def _miss(results: Results, k: int) -> Any:
    return 1.0 - results.any_hit(k)


def test_a_plugin_metric_is_found_by_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    added = Metric("miss_loss@k", _miss, (0.0, 1.0), "1 - hit", "Share of the queries without a hit.")
    monkeypatch.setattr(plugins, "names", lambda group: ["miss_loss", "ndcg"] if group == "metrics" else [])
    monkeypatch.setattr(plugins, "load", lambda group, name: added)
    registry._plugin.cache_clear()
    try:
        assert describe("miss_loss@2").direction == "min"
        assert [info.name for info in list_metrics()].count("ndcg@k") == 1
        assert list_metrics()[-1].name == "miss_loss@k"
        evaluation = evaluate(Ranking(IDS, SCORES), JUDGED, ["miss_loss@1", "hit@1"], limit=3)
        assert evaluation.values["miss_loss@1"] == 1 - evaluation.values["hit@1"]
    finally:
        registry._plugin.cache_clear()


def test_a_plugin_that_gives_nan_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = Metric("broken", lambda results, _: results.total * np.nan, (0.0, 1.0), "", "")
    monkeypatch.setattr(plugins, "names", lambda group: ["broken"])
    monkeypatch.setattr(plugins, "load", lambda group, name: broken)
    registry._plugin.cache_clear()
    try:
        with pytest.raises(InvalidRequestError, match="must give one finite number"):
            evaluate(Ranking(IDS, SCORES), JUDGED, ["broken"], limit=3)
    finally:
        registry._plugin.cache_clear()


@pytest.mark.parametrize(
    "found",
    [
        Metric("odd", lambda results, _: results.total[:1], (0.0, 1.0), "", ""),
        Metric("another", lambda results, _: results.total, (0.0, 1.0), "", ""),
        _miss,
        Metric("odd", lambda results, k: results.hits(k + 1), (0.0, 1.0), "", ""),
    ],
)
def test_a_plugin_that_is_no_metric_is_refused(monkeypatch: pytest.MonkeyPatch, found: Any) -> None:
    monkeypatch.setattr(plugins, "names", lambda group: ["odd"])
    monkeypatch.setattr(plugins, "load", lambda group, name: found)
    registry._plugin.cache_clear()
    try:
        with pytest.raises((InvalidRequestError, ValueError), match=r"one finite number|must be a .*Metric|announced"):
            evaluate(Ranking(IDS, SCORES), JUDGED, ["odd"], limit=3)
    finally:
        registry._plugin.cache_clear()


@pytest.mark.parametrize(
    ("metrics", "sentence"),
    [
        (["fame@10"], "unknown metric 'fame@10'; known are: precision_at_k"),
        (["ndcg"], "needs a cut-off, for example 'ndcg@10'"),
        (["ndcg@0"], "at least 1, got '0'"),
        (["ndcg@-1"], "at least 1, got '-1'"),
        (["ndcg@1.5"], "at least 1, got '1.5'"),
        (["ndcg@"], "at least 1, got ''"),
        (["hit_at_k@3"], "takes no cut-off; write 'hit_at_k'"),
        ([], "no metric was asked for"),
        ("ndcg@10", "must be a list of names"),
    ],
)
def test_bad_names(metrics: Any, sentence: str) -> None:
    with pytest.raises(InvalidRequestError, match=sentence):
        evaluate(Ranking(IDS, SCORES), JUDGED, metrics, limit=3)


def test_one_metric_is_described_at_a_time() -> None:
    with pytest.raises(InvalidRequestError, match="names 2 metrics"):
        describe("recall@1,2")


@pytest.mark.parametrize("limit", [0, -1, 1.5, True, "3"])
def test_bad_limits(limit: Any) -> None:
    with pytest.raises(InvalidRequestError, match="limit must be a whole number of at least 1"):
        evaluate(Ranking(IDS, SCORES), JUDGED, limit=limit)


@pytest.mark.parametrize(
    ("ids", "scores", "sentence"),
    [
        (IDS, SCORES[:, :2], "one shape"),
        (IDS.astype(float), SCORES, "integer ids"),
        (np.zeros((0, 3), int), np.zeros((0, 3)), "at least one query"),
        (IDS, -SCORES, "query 0 are not ordered by descending score"),
        (IDS, np.where(SCORES == 2.0, np.nan, SCORES), "NaN or infinite"),
        (IDS, np.where(SCORES == 3.0, np.inf, SCORES), "NaN or infinite"),
        (np.array([[0, -1, 1]]), np.array([[3.0, 2.0, 1.0]]), "pad before a result"),
    ],
)
def test_bad_rankings(ids: Any, scores: Any, sentence: str) -> None:
    with pytest.raises(InvalidRequestError, match=sentence):
        Ranking(ids, scores)


@pytest.mark.parametrize(
    "scores", [[3.0, math.nan, 1.0], [3.0, 2.0, math.nan], [math.nan, 2.0, 1.0], [1.0, 0.0, -math.inf]]
)
def test_a_score_that_is_not_finite_is_refused_wherever_it_stands(scores: list[float]) -> None:
    with pytest.raises(InvalidRequestError, match=r"NaN or infinite|not ordered"):
        Ranking(np.array([[0, 1, 2]]), np.array([scores]))


@pytest.mark.parametrize(
    ("ids", "sentence"),
    [
        ([[0, 1, 4]], "names document 4, but the index has 4 documents"),
        ([[0, 1, -2]], "names document -2"),
        ([[0, 1, 1]], "stands twice"),
        ([[0, 1, 3]], "among its own results"),
    ],
)
def test_results_that_cannot_be(ids: list[list[int]], sentence: str) -> None:
    judged = Judgements.from_labels(["a"], ["a", "b", "a", "a"], np.array([3]))
    with pytest.raises(InvalidRequestError, match=sentence):
        evaluate(Ranking(np.array(ids), np.array([[3.0, 2.0, 1.0]])), judged, limit=3)


def test_a_ranking_and_judgements_of_different_queries() -> None:
    with pytest.raises(InvalidRequestError, match="1 queries but the judgements have 2"):
        evaluate(Ranking(IDS[:1], SCORES[:1]), JUDGED, limit=3)


def test_a_word_that_is_no_rule_for_ties() -> None:
    ties: Any = "first"
    with pytest.raises(InvalidRequestError, match="must be 'expected' or 'position', got 'first'"):
        evaluate(Ranking(IDS, SCORES), JUDGED, limit=3, ties=ties)


@pytest.mark.parametrize(("queries", "index"), [([], ["a"]), (["a"], [])])
def test_empty_sets(queries: list[str], index: list[str]) -> None:
    with pytest.raises(InvalidRequestError, match="at least one query and one index document"):
        Judgements.from_labels(queries, index)


@pytest.mark.parametrize("grade", [-1.0, math.nan, math.inf])
def test_bad_grades(grade: float) -> None:
    with pytest.raises(InvalidRequestError, match="grades must be finite and at least 0, but 1 are not"):
        Judgements.from_qrels([{0: 1.0, 1: grade}], 2)


@pytest.mark.parametrize("judged", [{"doc-1": 1.0}, {0: "good"}, {None: 1.0}, {0: [1.0]}])
def test_judgements_that_are_no_numbers(judged: Any) -> None:
    with pytest.raises(InvalidRequestError, match="positions in the index to grades, both numbers"):
        Judgements.from_qrels([judged], 2)


def test_bad_judgements() -> None:
    with pytest.raises(InvalidRequestError, match="names document 5, but"):
        Judgements.from_qrels([{5: 1.0}], 2)
    with pytest.raises(InvalidRequestError, match="judges the same document twice"):
        Judgements.from_triples([0, 0], [1, 1], [1.0, 2.0], 1, 2)
    with pytest.raises(InvalidRequestError, match=r"three lists of one length, got \(2,\), \(1,\) and \(2,\)"):
        Judgements.from_triples([0, 0], [1], [1.0, 2.0], 1, 2)
    with pytest.raises(InvalidRequestError, match="a query that is not among the 1 queries"):
        Judgements.from_triples([1], [1], [1.0], 1, 2)
    with pytest.raises(InvalidRequestError, match="one entry for each of the 2 queries"):
        Judgements.from_labels("ab", "ab", np.array([0]))
    with pytest.raises(InvalidRequestError, match="not among the 2 in the index"):
        Judgements.from_labels("a", "ab", np.array([2]))


@pytest.mark.parametrize("label", [["a"], ("a",), {"a": 1}, b"a", math.nan, math.inf])
def test_labels_of_no_usable_type(label: Any) -> None:
    with pytest.raises(InvalidRequestError, match="labels must be"):
        Judgements.from_labels(["a", label], ["a"])


def test_one_and_one_point_zero_and_the_word_one_are_one_label() -> None:
    assert {canonical(label) for label in (1, 1.0, "1", np.int64(1), np.float32(1))} == {"1"}
    assert Judgements.from_labels([1, 1.5, "1"], [1.0, "1", np.int32(1), "1.5", True]).relevant.tolist() == [3, 1, 3]


def test_integers_strings_and_mixtures_are_numbered_alike() -> None:
    random = np.random.default_rng(5)
    queries, index = random.integers(-5, 20, 50), random.integers(-5, 20, 30)
    ids = np.broadcast_to(np.arange(30), (50, 30))
    expected = queries[:, None] == index[None]
    mixed = [str(label) if i % 2 else float(label) for i, label in enumerate(index)]
    wide = np.array([10**15, *index])
    for judged in (
        Judgements.from_labels(queries, index),
        Judgements.from_labels(list(map(str, queries)), list(map(str, index))),
        Judgements.from_labels(queries.tolist(), mixed),
        Judgements.from_labels(queries.astype(float), index),
    ):
        np.testing.assert_array_equal(judged.find(ids)[0], expected)
        np.testing.assert_array_equal(judged.relevant, expected.sum(axis=1))
    assert Judgements.from_labels(queries, wide).relevant.tolist() == expected.sum(axis=1).tolist()


@pytest.mark.parametrize("columns", [1, 2, 3, 7, 8, 33])
def test_graded_judgements_are_found_wherever_they_stand(columns: int) -> None:
    random = np.random.default_rng(columns)
    queries, documents = 300, 40
    order = np.argsort(random.random((queries, documents)), axis=1)[:, :columns]
    ids = np.where(np.arange(columns) < random.integers(0, columns + 1, queries)[:, None], order, -1)
    grades = np.where(random.random((queries, documents)) < 0.3, random.integers(1, 5, (queries, documents)), 0)
    grades[::7] = 0
    rows, positions = np.nonzero(grades)
    judged = Judgements.from_triples(rows, positions, grades[rows, positions], queries, documents)
    relevant, found = judged.find(ids)
    expected = np.where(ids >= 0, grades[np.arange(queries)[:, None], ids], 0)
    np.testing.assert_array_equal(relevant, expected > 0)
    assert found is not None
    np.testing.assert_array_equal(found, expected[expected > 0])


@pytest.mark.parametrize("top", [4, 2**29 - 2, 2**29 - 1, 2**29, 2**40])
def test_an_index_may_be_large(top: int) -> None:
    # Around 2**29 the numbers of documents no longer fit beside a column in 32 bits.
    judged = Judgements.from_triples([0, 0, 0], [top, 3, top + 1], [1.0, 2.0, 1.0], 1, top + 2)
    for ids, found in (([top, 1], 1), ([1, 2], 0), ([3, top], 2), ([3, -1], 1), ([-1, -1], 0)):
        ranking = Ranking(np.array([ids]), np.array([[2.0, 1.0]]))
        assert evaluate(ranking, judged, ["precision@2"], limit=2).values == {"precision@2": found / 2}
        with pytest.raises(InvalidRequestError, match="twice"):
            evaluate(Ranking(np.array([[top, top]]), np.array([[2.0, 1.0]])), judged, limit=2)


def test_a_missing_label_equals_nothing() -> None:
    judged = Judgements.from_labels([None, "a"], [None, "a", None])
    assert judged.relevant.tolist() == [0, 1]
    assert judged.find(np.array([[0, 1, 2], [0, 1, -1]]))[0].tolist() == [[False] * 3, [False, True, False]]


def test_the_own_document_does_not_count() -> None:
    assert Judgements.from_labels("ab", "aab", np.array([0, 1])).relevant.tolist() == [1, 1]
    graded = Judgements.from_qrels([{0: 2.0, 1: 1.0}, {0: 1.0}], 3, np.array([0, 2]))
    assert graded.relevant.tolist() == [1, 1]


def test_queries_without_relevant_score_zero_and_are_counted() -> None:
    judged = Judgements.from_labels(["z", "a"], "abac")
    metrics = [*DEFAULT_METRICS, "ndcg@3", "map@3", "r_precision", "f1@3"]
    evaluation = evaluate(Ranking(IDS, SCORES), judged, metrics, limit=3)
    assert evaluation.queries_without_relevant == 1
    assert all(values[0] == 0.0 for values in evaluation.per_query.values())
    assert evaluation.values["hit_at_k"] == 0.5


def test_nothing_found_scores_zero() -> None:
    for ids in (np.full((2, 3), -1), np.zeros((2, 0), int)):
        evaluation = evaluate(Ranking(ids, np.zeros(ids.shape)), JUDGED, [*DEFAULT_METRICS, "ndcg@3"], limit=3)
        assert set(evaluation.values.values()) == {0.0}
        assert evaluation.collapsed_fraction == 0.0


@pytest.mark.parametrize("graded", [False, True])
@pytest.mark.parametrize("block", [1, 70, 1000])
def test_blocks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch, graded: bool, block: int) -> None:
    random = np.random.default_rng(3)
    queries, documents, columns = 50, 40, 25
    ids = np.argsort(random.random((queries, documents)), axis=1)[:, :columns]
    scores = np.sort(random.integers(0, 12, ids.shape).astype(np.float32), axis=1)[:, ::-1]
    if graded:
        qrels = [{int(d): float(random.integers(0, 4)) for d in range(0, documents, 3)} for _ in range(queries)]
        judged = Judgements.from_qrels(qrels, documents)
    else:
        judged = Judgements.from_labels(random.integers(0, 6, queries), random.integers(0, 6, documents))
    names = [*DEFAULT_METRICS, "ndcg@3,10,20", "map@10", "r_precision"]
    whole = evaluate(Ranking(ids, scores), judged, names, limit=20)
    monkeypatch.setattr(evaluation, "_BLOCK_RESULTS", block)
    parts = evaluate(Ranking(ids, scores), judged, names, limit=20)
    assert parts.values == pytest.approx(whole.values, abs=1e-15)
    for name in whole.per_query:
        np.testing.assert_array_equal(parts.per_query[name], whole.per_query[name])
    assert parts.collapsed_fraction == whole.collapsed_fraction
    assert parts.queries_without_relevant == whole.queries_without_relevant


def test_evaluations_of_different_metrics_do_not_combine() -> None:
    first = evaluate(Ranking(IDS, SCORES), JUDGED, ["hit@1"], limit=3)
    second = evaluate(Ranking(IDS, SCORES), JUDGED, ["hit@2"], limit=3)
    with pytest.raises(InvalidRequestError, match="same metrics"):
        combine([first, second])
    with pytest.raises(InvalidRequestError, match="nothing to combine"):
        combine([])


def test_rows_of_a_ranking() -> None:
    part = Ranking(IDS, SCORES).rows(1, 2)
    assert part.queries == 1
    np.testing.assert_array_equal(part.ids, IDS[1:])
