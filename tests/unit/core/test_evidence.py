"""How an epoch stands against another: better, worse, or not to be told apart."""

from typing import Any  # deliberately wrong inputs

import numpy as np
import pytest

from tunevane.core.evidence import Evidence, judge
from tunevane.errors import InvalidRequestError

RANDOM = np.random.default_rng(0)
BASE = RANDOM.random(300)
NOISE = RANDOM.standard_normal(300)
NOISE -= NOISE.mean()

BETTER = Evidence("improved", 0.1, 0.05, 0.15, 0.0, 0.95)
UNDECIDED = Evidence("undecided", -0.1, -0.25, 0.05, 0.0, 0.95)
WORSE = Evidence("worse", -0.1, -0.15, -0.05, 0.0, 0.95)


@pytest.mark.parametrize(
    ("shift", "mode", "min_delta", "standing"),
    [
        (0.05, "max", 0.0, "improved"),
        (-0.05, "max", 0.0, "worse"),
        (0.001, "max", 0.0, "undecided"),
        (0.05, "min", 0.0, "worse"),
        (-0.05, "min", 0.0, "improved"),
        (0.05, "max", 0.05, "undecided"),
        (0.05, "max", 0.1, "worse"),
        (-0.05, "min", 0.02, "improved"),
    ],
)
def test_standing(shift: float, mode: Any, min_delta: float, standing: str) -> None:
    current = BASE + shift + 0.1 * NOISE
    evidence = judge(current, BASE, mode=mode, confidence=0.95, seed=1, min_delta=min_delta)
    assert evidence.standing == standing
    assert evidence.low < evidence.difference < evidence.high
    assert evidence.difference == pytest.approx(shift if mode == "max" else -shift)


def test_equal_seeds_give_equal_evidence() -> None:
    current = BASE + 0.01 * NOISE
    first = judge(current, BASE, mode="max", confidence=0.9, seed=3)
    assert first == judge(current, BASE, mode="max", confidence=0.9, seed=3)
    assert first != judge(current, BASE, mode="max", confidence=0.9, seed=4)


def test_an_unchanged_model_is_undecided_and_not_better() -> None:
    evidence = judge(BASE, BASE, mode="max", confidence=0.95, seed=1)
    assert (evidence.standing, evidence.difference, evidence.low, evidence.high) == ("undecided", 0.0, 0.0, 0.0)


def test_sentences() -> None:
    assert BETTER.sentence() == "better by +0.1000 (between +0.0500 and +0.1500)"
    assert UNDECIDED.sentence() == "not to be told apart: -0.1000 (between -0.2500 and +0.0500)"
    assert WORSE.sentence() == "not better by more than 0: -0.1000 (between -0.1500 and -0.0500)"


@pytest.mark.parametrize("min_delta", [-0.1, float("nan"), float("inf")])
def test_bad_min_delta(min_delta: float) -> None:
    with pytest.raises(InvalidRequestError, match="min_delta must be finite and at least 0"):
        judge(BASE, BASE, mode="max", confidence=0.95, seed=1, min_delta=min_delta)
