"""Early stopping and selection on noisy metrics: with a confidence, and by patience 2, 3 and 5.

Simulated runs of up to 20 epochs in the worlds of `decision_worlds.py`, and resampled queries of real runs
(`learning_runs.npz`). All contenders see the same values. In points (0.01) of the metric:

- regret: the best true quality of the whole run less that of the checkpoint that is kept;
- regret of stopping: the same, had the best of the epochs that were trained been kept.

"Patience 2 + 2" trains two epochs more than patience 2 and keeps the highest mean: what more epochs alone are worth.

A stop is premature when the truth would have risen by more than half a point afterwards. "Oracle" knows the world:
its curves, their probabilities and the covariance of the noise, and keeps the epoch with the best posterior mean
of all 20 that it trains. No rule has less regret on average, so where that is more than half of what patience 2 has,
half cannot be reached.
"""

from __future__ import annotations

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"

import argparse
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from decision_worlds import EPOCHS, WORLDS, Values, World
from harness import Row, report

from tunevane.core.confidence import (
    ConfidentSelection,
    ConfidentSelectionState,
    ConfidentStopping,
    ConfidentStoppingState,
)
from tunevane.core.decisions import EarlyStoppingRule, EarlyStoppingState
from tunevane.core.epoch_values import EpochValues

CONFIDENCE = 0.95
RUNS = {50: 150, 200: 150, 1000: 80, 7000: 30}
"""Runs in every world by number of queries."""

ORACLE_CURVES = 20_000
REAL = Path(__file__).parent / "learning_runs.npz"
OURS, TWO = "confidence", "patience 2"


@dataclass(frozen=True)
class Outcome:
    """What one rule did in one run."""

    regret: float
    """In points."""

    stopping_regret: float
    """In points."""

    epochs: int
    """Epochs trained."""

    premature: bool
    """Whether it stopped too early."""


def patience(values: Values, most: int) -> tuple[int, int]:
    """Epochs that plain early stopping trains, and the epoch that is best by its measured mean."""
    rule, state = EarlyStoppingRule("max", most), EarlyStoppingState()
    means = values.mean(axis=1)
    for epoch, value in enumerate(means, 1):
        state, conclusion = rule.step(state, float(value), None)
        if conclusion.verdict == "stop":
            return epoch, 1 + int(means[:epoch].argmax())
    return len(means), 1 + int(means.argmax())


def confident(values: Values) -> tuple[int, int]:
    """Epochs that patience 2 with a confidence trains, and the epoch that is kept with one."""
    stopping = ConfidentStopping(EarlyStoppingRule("max", 2), CONFIDENCE)
    selection = ConfidentSelection("max", CONFIDENCE)
    stop_state, state = ConfidentStoppingState(), ConfidentSelectionState()
    for epoch, per_query in enumerate(values, 1):
        measured = EpochValues.of(epoch, float(per_query.mean()), per_query)
        stop_state, conclusion, _ = stopping.step(stop_state, measured, None)
        state, _ = selection.step(state, measured)
        if conclusion.verdict == "stop":
            return epoch, state.epoch
    return len(values), state.epoch


def outcome(truth: Values, trained: int, kept: int) -> Outcome:
    """Compares what was done with the truth."""
    reached = truth[:trained].max()
    later = truth[trained:].max(initial=0.0)
    best = truth.max()
    return Outcome(
        100 * float(best - truth[kept - 1]), 100 * float(best - reached), trained, bool(later > reached + 0.005)
    )


def play(truth: Values, values: Values) -> dict[str, Outcome]:
    """Plays one run with every rule."""
    found = {f"patience {most}": outcome(truth, *patience(values, most)) for most in (2, 3, 5)}
    found["patience 2 + 2"] = outcome(truth, *after_patience(values))
    found["never"] = outcome(truth, *patience(values, EPOCHS + 1))
    found[OURS] = outcome(truth, *confident(values))
    return found


def after_patience(values: Values) -> tuple[int, int]:
    """Two more epochs than patience 2, and the best measured one: what the extra epochs alone are worth."""
    trained = min(patience(values, 2)[0] + 2, len(values))
    return trained, 1 + int(values[:trained].mean(axis=1).argmax())


class Oracle:
    """Knows a world whose luck is normal."""

    def __init__(self, world: World, queries: int) -> None:
        self._curves = world.curve(np.random.default_rng(2**20), ORACLE_CURVES)
        spread = world.noise(queries) + world.jitter**2 * np.eye(EPOCHS)
        self._inverse = np.linalg.inv(spread)
        self._jitter = world.jitter**2

    def keeps(self, values: Values) -> int:
        """Returns the epoch with the best posterior mean."""
        apart = values.mean(axis=1) - self._curves
        exponents = -0.5 * np.einsum("ct,ct->c", apart @ self._inverse, apart)
        weight = np.exp(exponents - exponents.max())
        curve = weight @ self._curves / weight.sum()
        return 1 + int((curve + self._jitter * self._inverse @ (values.mean(axis=1) - curve)).argmax())


def in_world(world: World, queries: int, runs: int) -> dict[str, list[Outcome]]:
    """Plays runs of one world."""
    oracle = Oracle(world, queries) if world.luck == "normal" else None
    found: dict[str, list[Outcome]] = {}
    for seed in range(runs):
        truth, values = world.draw(seed, queries)
        played = play(truth, values)
        if oracle is not None:
            played["oracle"] = outcome(truth, EPOCHS, oracle.keeps(values))
        for name, each in played.items():
            found.setdefault(name, []).append(each)
    return found


def real(queries: int, runs: int) -> dict[str, list[Outcome]]:
    """Plays real runs: their queries are the population, and the rules see some of them."""
    found: dict[str, list[Outcome]] = {}
    with np.load(REAL) as learned:
        for name in sorted(learned):
            population = learned[name].astype(np.float64)
            for seed in range(runs):
                chosen = np.random.default_rng((seed, queries)).permutation(population.shape[1])[:queries]
                for rule, each in play(population.mean(axis=1), population[:, chosen]).items():
                    found.setdefault(rule, []).append(each)
    return found


def means(outcomes: Iterable[Outcome]) -> dict[str, float]:
    """Averages over runs."""
    rows = [[each.regret, each.stopping_regret, each.epochs, each.premature] for each in outcomes]
    regret, stopping, epochs, premature = np.array(rows, np.float64).mean(axis=0).tolist()
    return {"regret": regret, "stopping_regret": stopping, "epochs": epochs, "premature": premature}


def rows_of(name: str, queries: int, found: Mapping[str, list[Outcome]], bound: bool) -> list[Row]:
    """Makes the rows of one group of runs."""
    two, ours = means(found[TWO]), means(found[OURS])
    title = f"{queries} queries, {name}"
    rows = [
        Row(
            f"{title}: regret, points",
            ours["regret"],
            two["regret"],
            two["regret"] / max(ours["regret"], 1e-9),
            ">= 2 x",
            ours["regret"] <= two["regret"] / 2,
        ),
        Row(
            f"{title}: epochs", ours["epochs"], two["epochs"], None, "<= peer + 2", ours["epochs"] <= two["epochs"] + 2
        ),
        Row(
            f"{title}: premature stops, %",
            100 * ours["premature"],
            100 * two["premature"],
            two["premature"] / ours["premature"] if ours["premature"] else None,
            "<= peer",
            ours["premature"] <= two["premature"],
        ),
    ]
    if bound:
        best = means(found["oracle"])["regret"]
        possible = best <= two["regret"] / 2
        rows.append(
            Row(f"{title}: regret of the oracle", best, two["regret"], two["regret"] / best, "(a bound)", possible)
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", type=float, default=1.0, help="share of the runs to play")
    scale = parser.parse_args().scale
    rows: list[Row] = []
    notes: dict[str, object] = {}
    for queries, count in RUNS.items():
        runs = max(round(scale * count), 2)
        groups: dict[str, dict[str, list[Outcome]]] = {"worlds that were looked at": {}, "worlds held out": {}}
        for world_name, world in WORLDS.items():
            played = in_world(world, queries, runs)
            title = f"{queries} queries, {world_name}{' (held out)' if world.held_out else ''}"
            notes[title] = show(title, {rule: means(each) for rule, each in played.items()})
            group = groups["worlds held out" if world.held_out else "worlds that were looked at"]
            for rule, each in played.items():
                group.setdefault(rule, []).extend(each)
        for name, group in groups.items():
            rows += rows_of(name, queries, group, bound=name == "worlds that were looked at")
        if queries <= 200:
            played = real(queries, runs * 2)
            title = f"{queries} queries, real runs"
            notes[title] = show(title, {rule: means(each) for rule, each in played.items()})
            rows += rows_of("real runs", queries, played, bound=False)
    report("decisions", rows, notes)


def sentence(told: Mapping[str, float]) -> str:
    """Words what one rule did on average."""
    return (
        f"regret {told['regret']:.3f}, of stopping {told['stopping_regret']:.3f} points, "
        f"{told['epochs']:.1f} epochs, {100 * told['premature']:.1f} % premature"
    )


def show(title: str, told: Mapping[str, Mapping[str, float]]) -> dict[str, str]:
    """Prints what every rule did, and returns it."""
    said = {rule: sentence(each) for rule, each in told.items()}
    print(title, *(f"  {rule:14} {text}" for rule, text in said.items()), sep="\n", flush=True)
    return said


if __name__ == "__main__":
    main()
