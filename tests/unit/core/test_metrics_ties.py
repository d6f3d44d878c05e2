"""Expected values over ties: against all orders of small cases, and against chance on larger ones."""

from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support import plain_metrics
from tunevane.core.metrics import DEFAULT_METRICS, Evaluation, Judgements, Ranking, evaluate

STANDARD = ("ndcg", "map", "map_min", "mrr", "recall", "precision", "hit", "f1", "dcg")


def names(k: int) -> list[str]:
    return [*DEFAULT_METRICS, *(f"{name}@{k}" for name in STANDARD), "r_precision"]


def score(grades: list[float], scores: list[float], missed: list[float], k: int, ties: str = "expected") -> Evaluation:
    """Scores one ranking given by the grade and score of each result; `missed` is relevant and not found."""
    n = len(grades)
    ranking = Ranking(np.arange(n)[None], np.array([scores], float))
    judged = [*grades, *missed]
    judgements = Judgements.from_qrels([dict(enumerate(judged))], len(judged) + 1)
    return evaluate(ranking, judgements, names(k), limit=k, ties=ties)  # type: ignore[arg-type]  # a parametrised word


def by_definition(grades: list[float], missed: list[float], k: int) -> dict[str, float]:
    judged = [grade for grade in [*grades, *missed] if grade > 0]
    rel = [int(grade > 0) for grade in grades][:k]
    values = {name: plain_metrics.reference(rel, len(judged))[name] for name in DEFAULT_METRICS}
    standard = plain_metrics.standard(grades, judged, k)
    values |= {f"{name}@{k}": standard[name] for name in STANDARD}
    return values | {"r_precision": standard["r_precision"]}


def over_all_orders(grades: list[float], scores: list[float], missed: list[float], k: int) -> dict[str, float]:
    groups = [[g for g, s in zip(grades, scores, strict=True) if s == value] for value in sorted(set(scores))[::-1]]
    every = [
        by_definition([grade for part in order for grade in part], missed, k)
        for order in product(*(list(permutations(group)) for group in groups))
    ]
    return {name: sum(values[name] for values in every) / len(every) for name in every[0]}


GRADES = st.sampled_from([0.0, 0.0, 0.0, 1.0, 1.0, 2.5])


@given(
    st.lists(st.tuples(GRADES, st.sampled_from([1.0, 2.0, 3.0])), min_size=1, max_size=6),
    st.lists(st.sampled_from([1.0, 3.0]), max_size=2),
    st.integers(1, 7),
)
@settings(max_examples=300, deadline=None)
def test_equals_the_mean_over_all_orders(results: list[tuple[float, float]], missed: list[float], k: int) -> None:
    results = sorted(results, key=lambda pair: -pair[1])
    grades, scores = [pair[0] for pair in results], [pair[1] for pair in results]
    assert score(grades, scores, missed, k).values == pytest.approx(
        over_all_orders(grades, scores, missed, k), abs=1e-12
    )


@given(st.lists(GRADES, min_size=1, max_size=30), st.lists(st.just(1.0), max_size=3), st.integers(1, 31))
@settings(max_examples=200, deadline=None)
def test_without_ties_it_is_the_plain_value(grades: list[float], missed: list[float], k: int) -> None:
    scores = [-float(rank) for rank in range(len(grades))]
    expected = by_definition(grades, missed, k)
    assert score(grades, scores, missed, k).values == pytest.approx(expected, abs=1e-12)
    assert score(grades, [0.0] * len(grades), missed, k, "position").values == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("size", "relevant", "k"), [(120, 7, 20), (300, 150, 100), (1500, 3, 10), (60, 59, 20)])
def test_equals_chance_on_large_groups(size: int, relevant: int, k: int) -> None:
    random = np.random.default_rng(7)
    head = [0.0, 1.0, 0.0]
    tail = [1.0] * relevant + [0.0] * (size - relevant)
    closed = score([*head, *tail], [2.0] * 3 + [1.0] * size, [1.0], k).values
    draws = 4000
    orders = random.permuted(np.broadcast_to(np.array(tail), (draws, size)), axis=1)
    heads = random.permuted(np.broadcast_to(np.array(head), (draws, 3)), axis=1)
    grades = np.concatenate([heads, orders], axis=1)
    gains = np.zeros(grades.shape[1] + 2)
    # Every drawn order as a query of its own: the documents are numbered by their place.
    qrels = [{**{int(p): 1.0 for p in np.flatnonzero(line)}, len(gains) - 1: 1.0} for line in grades]
    scores = np.broadcast_to(-np.arange(float(grades.shape[1])), grades.shape)
    ids = np.broadcast_to(np.arange(grades.shape[1]), grades.shape)
    drawn = evaluate(Ranking(ids, scores), Judgements.from_qrels(qrels, len(gains)), names(k), limit=k)
    for name, value in closed.items():
        sample = drawn.per_query[name]
        error = sample.std() / np.sqrt(draws)
        assert abs(sample.mean() - value) <= 4.5 * error + 1e-12, name


def test_a_collapsed_model_scores_its_expectation_whatever_the_order_of_ids() -> None:
    random = np.random.default_rng(1)
    labels = np.repeat(np.arange(10), 10)
    values = []
    for _ in range(3):
        shuffled = random.permutation(labels)
        ids = np.broadcast_to(np.arange(100), (10, 100))
        evaluation = evaluate(
            Ranking(ids, np.zeros((10, 100))), Judgements.from_labels(np.arange(10), shuffled), names(20), limit=20
        )
        assert evaluation.collapsed_fraction == 1.0
        values.append(evaluation.values)
    assert values[0] == values[1] == values[2]
    assert values[0]["precision_at_k"] == pytest.approx(0.1, abs=1e-15)
    assert values[0]["recall_at_k"] == pytest.approx(0.2, abs=1e-15)


def test_only_queries_whose_whole_result_is_one_tie_are_collapsed() -> None:
    scores = np.array([[1.0, 1.0, 1.0], [1.0, 1.0, 0.5], [1.0, 0.0, 0.0], [1.0, 1.0, 0.0]])
    ids = np.array([[0, 1, 2], [0, 1, 2], [0, -1, -1], [0, 1, -1]])
    evaluation = evaluate(Ranking(ids, scores), Judgements.from_labels("aaaa", "abc"), limit=3)
    assert evaluation.collapsed_fraction == 0.5


@given(st.integers(0, 2**32), st.integers(1, 9))
@settings(max_examples=50, deadline=None)
def test_the_order_within_ties_does_not_matter(seed: int, k: int) -> None:
    random = np.random.default_rng(seed)
    grades = random.integers(0, 3, 12).astype(float)
    scores = np.sort(random.integers(0, 4, 12))[::-1].astype(float)
    order = np.lexsort((random.random(12), -scores))
    first = score(grades.tolist(), scores.tolist(), [1.0], k).values
    second = score(grades[order].tolist(), scores.tolist(), [1.0], k).values
    assert first == pytest.approx(second, abs=1e-14)
