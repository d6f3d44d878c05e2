"""Changes since before training, with evaluations that have query sets of their own."""

import numpy as np

from tunevane_trainer.training.against import Against


def test_evaluations_of_different_numbers_of_queries_are_each_compared() -> None:
    before = {"a_mrr@10": np.zeros(30), "a_hit@10": np.zeros(30), "b_mrr@10": np.zeros(4)}
    now = {"a_mrr@10": np.full(30, 0.5), "a_hit@10": np.zeros(30), "b_mrr@10": np.full(4, 0.25), "new": np.ones(4)}
    found = Against(lambda: before).intervals(now)
    assert list(found) == ["a_mrr@10", "a_hit@10", "b_mrr@10"]
    assert found["a_mrr@10"].low <= 0.5 <= found["a_mrr@10"].high
    assert (found["a_hit@10"].low, found["a_hit@10"].high) == (0, 0)
    assert Against(dict).intervals(now) == {}
