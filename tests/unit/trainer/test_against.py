"""What a run says against the model before training: intervals of changes, and the differences that are noise."""

from __future__ import annotations

import numpy as np

from tunevane.core.statistics import Floats, smallest_difference
from tunevane_trainer.training.against import Against

RANDOM = np.random.default_rng(0)
BEFORE: dict[str, Floats] = {"ndcg@10": RANDOM.random(200), "recall@1": RANDOM.integers(0, 2, 200).astype(float)}
NOW = {name: values + 0.1 + 0.2 * RANDOM.standard_normal(200) for name, values in BEFORE.items()}


class Source:
    """Gives values by query, and counts how often it was asked."""

    def __init__(self, values: dict[str, Floats]) -> None:
        self.values = values
        self.asked = 0

    def __call__(self) -> dict[str, Floats]:
        self.asked += 1
        return self.values


def test_intervals_hold_the_change_of_every_metric_that_both_have() -> None:
    source = Source(BEFORE)
    against = Against(source)
    found = against.intervals({**NOW, "mrr@10": RANDOM.random(200)})
    assert set(found) == set(BEFORE)
    for name, interval in found.items():
        change = float((NOW[name] - BEFORE[name]).mean())
        assert interval.low < change < interval.high
        assert interval.low > 0.05
        assert interval.confidence == 0.95
    assert against.intervals(NOW) == found
    assert source.asked == 1


def test_nothing_to_compare_gives_no_interval_and_no_sentence() -> None:
    against = Against(Source({}))
    assert against.intervals(NOW) == {}
    assert against.noise(NOW, ["ndcg@10"]) == ""
    assert Against(Source(BEFORE)).intervals({}) == {}


def test_the_sentence_is_about_what_is_monitored_and_else_about_the_first_metric() -> None:
    against = Against(Source(BEFORE))
    for preferred, metric in (
        (["mrr@10", "recall@1"], "recall@1"),
        ([], "ndcg@10"),
    ):
        expected = smallest_difference(metric, NOW[metric], BEFORE[metric])
        assert against.noise(NOW, preferred) == expected.sentence()
        assert f"with 200 queries, differences under {100 * expected.difference:.1f} points of {metric} are noise" == (
            expected.sentence()
        )
