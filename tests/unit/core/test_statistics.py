"""Paired statistics: against all sign vectors, against the usual bootstrap, and under a true null hypothesis."""

from itertools import product
from typing import Any  # deliberately wrong inputs

import numpy as np
import pytest

from tunevane.core.statistics import compare, paired, smallest_difference
from tunevane.errors import InvalidRequestError


def pair(queries: int, shift: float, seed: int) -> tuple[dict[str, Any], dict[str, Any]]:
    random = np.random.default_rng(seed)
    before = random.random(queries)
    return {"ndcg@10": before + shift + 0.1 * random.standard_normal(queries)}, {"ndcg@10": before}


@pytest.mark.parametrize(
    "values", [[1, 0, -1, 0, 1, 1, 0, 1, 1, 0], [0.3, -0.1, 0.25, 0.7, -0.2, 0.4, 0.1, 0.1, 0.0, 0.2]]
)
def test_p_value_is_the_share_of_all_sign_vectors(values: list[float]) -> None:
    observed = abs(sum(values))
    every = [abs(sum(s * v for s, v in zip(signs, values, strict=True))) for signs in product((-1, 1), repeat=10)]
    exact = sum(each >= observed - 1e-9 for each in every) / len(every)
    resamples = 40_000
    p = compare({"hit@1": np.array(values)}, {"hit@1": np.zeros(10)}, seed=5, resamples=resamples)["hit@1"].p_value
    assert abs(p - exact) < 4 * np.sqrt(exact * (1 - exact) / resamples) + 1 / resamples


@pytest.mark.parametrize("queries", [60, 500, 3001])
def test_interval_equals_the_usual_bootstrap(queries: int) -> None:
    after, before = pair(queries, 0.02, queries)
    ours = compare(after, before, seed=1)["ndcg@10"]
    differences = after["ndcg@10"] - before["ndcg@10"]
    random = np.random.default_rng(2)
    means = np.array([differences[random.integers(0, queries, queries)].mean() for _ in range(4000)])
    width = ours.high - ours.low
    low, high = np.quantile(means, [0.025, 0.975])
    assert abs(ours.low - low) < 0.08 * width
    assert abs(ours.high - high) < 0.08 * width
    assert ours.difference == pytest.approx(differences.mean(), abs=1e-15)


def test_under_the_null_p_values_are_uniform_and_intervals_cover() -> None:
    runs, covered, p_values = 400, 0, []
    for seed in range(runs):
        result = compare(*pair(100, 0.0, seed), seed=seed, resamples=999)["ndcg@10"]
        covered += result.low <= 0.0 <= result.high
        p_values.append(result.p_value)
    ordered = np.sort(p_values)
    assert np.abs(ordered - np.arange(1, runs + 1) / runs).max() < 1.95 / np.sqrt(runs)  # Kolmogorov, 0.1 %
    assert 0.90 < covered / runs < 0.985


def test_a_clear_change_is_seen_and_no_change_is_not() -> None:
    clear = compare(*pair(500, 0.1, 3), seed=0)["ndcg@10"]
    assert clear.p_value == pytest.approx(1 / 10_001)
    assert clear.low > 0.08
    same = compare({"a": np.ones(50)}, {"a": np.ones(50)}, seed=0)["a"]
    assert (same.difference, same.low, same.high, same.p_value) == (0.0, 0.0, 0.0, 1.0)


def test_seeded_and_all_metrics_at_once() -> None:
    after, before = pair(333, 0.01, 4)
    after["hit@1"], before["hit@1"] = (after["ndcg@10"] > 0.5) * 1.0, (before["ndcg@10"] > 0.5) * 1.0
    after["only here"] = after["hit@1"]
    first = compare(after, before, seed=11)
    assert first == compare(after, before, seed=11)
    assert first != compare(after, before, seed=12)
    assert list(first) == ["ndcg@10", "hit@1"]


def test_the_size_of_a_block_does_not_change_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    after, before = pair(50, 0.01, 4)
    whole = compare(after, before, seed=1, resamples=1000)
    monkeypatch.setattr("tunevane.core.statistics._BLOCK_SIGNS", 56 * 250)
    parts = compare(after, before, seed=1, resamples=1000)
    assert parts["ndcg@10"].p_value == pytest.approx(whole["ndcg@10"].p_value, abs=0.05)
    assert parts["ndcg@10"].low == pytest.approx(whole["ndcg@10"].low, abs=0.005)


def test_one_query_is_no_evidence() -> None:
    result = compare({"a": np.array([1.0])}, {"a": np.array([0.0])}, seed=0, resamples=200)["a"]
    assert result.p_value == 1.0
    assert np.isfinite([result.low, result.high]).all()


def test_the_smallest_difference_in_one_sentence() -> None:
    random = np.random.default_rng(8)
    before = random.random(200)
    after = before + 0.1 * random.standard_normal(200)
    found = smallest_difference("ndcg@10", after, before)
    spread = (after - before).std(ddof=1)
    assert found.difference == pytest.approx(1.959964 * spread / np.sqrt(200), rel=1e-6)
    assert found.sentence() == (
        f"with 200 queries, differences under {100 * found.difference:.1f} points of ndcg@10 are noise"
    )


def test_without_a_second_evaluation_the_two_count_as_independent() -> None:
    values = np.random.default_rng(8).random(200)
    alone, same = smallest_difference("a", values), smallest_difference("a", values, values)
    assert alone == same
    assert alone.difference == pytest.approx(1.959964 * values.std(ddof=1) * np.sqrt(2 / 200), rel=1e-6)


def test_detectable_differences_are_found_about_half_of_the_time() -> None:
    found, runs = 0, 400
    for seed in range(runs):
        after, before = pair(200, 0.0, seed)
        size = smallest_difference("ndcg@10", after["ndcg@10"], before["ndcg@10"]).difference
        result = compare({"a": after["ndcg@10"] + size}, {"a": before["ndcg@10"]}, seed=seed, resamples=500)["a"]
        found += result.low > 0
    assert 0.4 < found / runs < 0.6


@pytest.mark.parametrize(
    ("current", "previous", "options", "sentence"),
    [
        ({"a": np.ones(3)}, {"b": np.ones(3)}, {}, "no metric in common"),
        ({"a": np.ones(3)}, {"a": np.ones(4)}, {}, "the same queries on both sides"),
        ({"a": np.ones(0)}, {"a": np.ones(0)}, {}, "the same queries on both sides"),
        ({"a": np.array([np.nan])}, {"a": np.ones(1)}, {}, "not finite"),
        ({"a": np.ones(3)}, {"a": np.ones(3)}, {"resamples": 0}, "resamples must be at least 1, got 0"),
        ({"a": np.ones(3)}, {"a": np.ones(3)}, {"confidence": 1.0}, "confidence must lie between 0 and 1"),
        ({"a": np.ones(3)}, {"a": np.ones(3)}, {"confidence": 0.0}, "confidence must lie between 0 and 1"),
    ],
)
def test_bad_input(current: Any, previous: Any, options: Any, sentence: str) -> None:
    with pytest.raises(InvalidRequestError, match=sentence):
        compare(current, previous, seed=0, **options)


def test_paired_gives_current_minus_previous() -> None:
    np.testing.assert_array_equal(paired(np.array([1.0, 2.0]), np.array([3.0, 1.0]), "a"), [-2.0, 1.0])
