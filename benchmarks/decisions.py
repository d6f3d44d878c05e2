"""Early stopping on noisy metrics: plain patience 2, 3 and 5 against patience 2 with a confidence.

Simulated runs of 20 epochs: the true quality rises to a plateau, peaks between epochs 3 and 12 and declines;
every query adds a constant of its own and a deviation that lasts from epoch to epoch (correlation 0.7). All
contenders see the same values. Regret, in points (0.01), is told apart by who is to blame:

- of stopping: the best true quality of the whole run less the best that was trained before the stop;
- in all: the best true quality of the whole run less that of the checkpoint with the best measured value.
  The difference is luck in choosing among trained checkpoints, which no rule for stopping can remove; "never"
  trains all epochs and shows how little of the regret in all is left to such a rule.

A stop is premature when the truth would have risen by more than half a point afterwards.
"""

from __future__ import annotations

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from harness import Row, report

from tunevane.core.confidence import ConfidentPatience, ConfidentPatienceState, judge, replaces
from tunevane.core.decisions import EarlyStoppingRule, EarlyStoppingState

EPOCHS, CONFIDENCE = 20, 0.95
RUNS = {50: 600, 200: 600, 1000: 300, 7000: 100}

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Outcome:
    """Means over runs of one rule at one number of queries."""

    stopping_regret: float
    regret: float
    epochs: float
    premature: float


def simulate(seed: int, queries: int) -> tuple[Values, Values]:
    """Draws a run: true quality [epochs] and per-query values [epochs, queries]."""
    random = np.random.default_rng((seed, queries))
    epoch = np.arange(1, EPOCHS + 1)
    gain, pace = random.uniform(0.05, 0.3), random.uniform(1.0, 4.0)
    peak, decline = random.uniform(3.0, 12.0), random.uniform(0.002, 0.01)
    truth = 0.4 + gain * (1.0 - np.exp(-epoch / pace)) - decline * np.maximum(epoch - peak, 0.0)
    truth = truth + 0.002 * random.standard_normal(EPOCHS)
    deviation = np.empty((EPOCHS, queries))
    deviation[0] = random.standard_normal(queries)
    for i in range(1, EPOCHS):
        deviation[i] = 0.7 * deviation[i - 1] + np.sqrt(1 - 0.49) * random.standard_normal(queries)
    return truth, truth[:, None] + 0.25 * random.standard_normal(queries) + 0.2 * deviation


def plain(patience: int) -> Callable[[Values], int]:
    """Epochs that plain early stopping trains."""

    def epochs(values: Values) -> int:
        rule, state = EarlyStoppingRule("max", patience), EarlyStoppingState()
        for epoch, value in enumerate(values.mean(axis=1), 1):
            state, conclusion = rule.step(state, float(value), None)
            if conclusion.verdict == "stop":
                return epoch
        return EPOCHS

    return epochs


def confident(values: Values) -> int:
    """Epochs that patience 2 with a confidence trains."""
    rule, state, reference = ConfidentPatience(patience=2), ConfidentPatienceState(), values[0]
    for epoch, current in enumerate(values[1:], 2):
        evidence = judge(current, reference, mode="max", confidence=CONFIDENCE, seed=epoch, resamples=500)
        state, stop = rule.step(state, evidence)
        if stop:
            return epoch
        if evidence.measured_better:
            reference = current
    return EPOCHS


def kept_with_confidence(values: Values) -> int:
    """Epoch, from 0, that best-checkpoint selection with a confidence keeps."""
    kept = 0
    for epoch in range(1, len(values)):
        evidence = judge(values[epoch], values[kept], mode="max", confidence=CONFIDENCE, seed=epoch, resamples=500)
        kept = epoch if replaces(evidence) else kept
    return kept


def play(queries: int) -> dict[str, Outcome]:
    """Plays all runs with every rule."""
    rules = {
        "patience 2": plain(2),
        "patience 3": plain(3),
        "patience 5": plain(5),
        "never": plain(EPOCHS + 1),
        "patience 2, confidence": confident,
    }
    tally: dict[str, list[tuple[float, float, float, float]]] = {name: [] for name in (*rules, "kept by confidence")}
    for seed in range(RUNS[queries]):
        truth, values = simulate(seed, queries)
        best = float(truth.max())
        for name, rule in rules.items():
            epochs = rule(values)
            trained = float(truth[:epochs].max())
            later = float(truth[epochs:].max(initial=0.0))
            kept = float(truth[int(values[:epochs].mean(axis=1).argmax())])
            tally[name].append((best - trained, best - kept, epochs, later > trained + 0.005))
        epochs = confident(values)
        trained, later = float(truth[:epochs].max()), float(truth[epochs:].max(initial=0.0))
        chosen = float(truth[kept_with_confidence(values[:epochs])])
        tally["kept by confidence"].append((best - trained, best - chosen, epochs, later > trained + 0.005))
    means = {name: np.mean(np.array(rows, float), axis=0) for name, rows in tally.items()}
    return {name: Outcome(*(float(each) for each in (100 * m[0], 100 * m[1], m[2], m[3]))) for name, m in means.items()}


def main() -> None:
    rows, notes = [], {}
    for queries in RUNS:
        outcomes = play(queries)
        two, ours = outcomes["patience 2"], outcomes["patience 2, confidence"]
        # Both below a hundredth of a point: there is nothing left to halve.
        halved = ours.stopping_regret <= max(two.stopping_regret / 2, 0.01)
        ratio = two.stopping_regret / max(ours.stopping_regret, 1e-9)
        rows.append(
            Row(
                f"{queries} queries: regret of stopping, points",
                ours.stopping_regret,
                two.stopping_regret,
                ratio,
                ">= 2 x",
                halved,
            )
        )
        rows.append(
            Row(
                f"{queries} queries: regret in all, points",
                ours.regret,
                two.regret,
                two.regret / max(ours.regret, 1e-9),
                ">= 2 x",
                ours.regret <= two.regret / 2,
            )
        )
        rows.append(
            Row(
                f"{queries} queries: premature stops, %",
                100 * ours.premature,
                100 * two.premature,
                two.premature / ours.premature if ours.premature else None,
                "<= peer",
                ours.premature <= two.premature,
            )
        )
        more = ours.epochs - two.epochs
        rows.append(Row(f"{queries} queries: epochs trained", ours.epochs, two.epochs, None, "<= peer + 2", more <= 2))
        print(f"{queries} queries, {RUNS[queries]} runs")
        for name, each in outcomes.items():
            print(
                f"  {name:24} regret of stopping {each.stopping_regret:5.2f}, in all {each.regret:5.2f} points, "
                f"{each.epochs:4.1f} epochs, {100 * each.premature:4.1f} % premature"
            )
        notes[str(queries)] = {name: vars(each) for name, each in outcomes.items()}
    report("decisions", rows, notes)


if __name__ == "__main__":
    main()
