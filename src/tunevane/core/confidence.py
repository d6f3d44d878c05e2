"""Decisions that know the noise: what `confidence=` means to early stopping and best-checkpoint selection.

A new value is compared with a reference query by query. The bootstrap interval of the difference says
whether it is better, worse, or not to be told apart, and the two rules use that differently: a checkpoint
is replaced only by one that is better beyond doubt, and training is given one more chance while it is
undecided whether the latest epoch is worse.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tunevane.core.monitor import Mode
from tunevane.core.statistics import Floats, compare
from tunevane.errors import InvalidRequestError

Standing = Literal["improved", "worse", "undecided"]


@dataclass(frozen=True)
class Evidence:
    """How an epoch stands against a reference; positive differences are better, whatever the metric's direction."""

    standing: Standing
    """`improved`: the whole interval lies above `min_delta`; `worse`: it lies below it; else `undecided`."""

    difference: float
    """Mean difference over queries."""

    low: float
    """Lower end of the bootstrap interval."""

    high: float
    """Upper end of the bootstrap interval."""

    min_delta: float
    """What an improvement has to exceed."""

    @property
    def measured_better(self) -> bool:
        """Whether the plain values say improved, proven or not."""
        return self.difference > self.min_delta

    def sentence(self) -> str:
        """Says it to a person."""
        interval = f"{self.difference:+.4f} (between {self.low:+.4f} and {self.high:+.4f})"
        return {
            "improved": f"better by {interval}",
            "worse": f"not better by more than {self.min_delta:g}: {interval}",
            "undecided": f"not to be told apart: {interval}",
        }[self.standing]


def judge(
    current: Floats,
    reference: Floats,
    *,
    mode: Mode,
    confidence: float,
    seed: int,
    min_delta: float = 0.0,
    resamples: int = 2_000,
) -> Evidence:
    """Compares an epoch's per-query values [q] with a reference's [q].

    Args:
        current: Values of this epoch.
        reference: Values of the epoch to beat, the same queries in the same order.
        mode: Which way is better.
        confidence: Level of the two-sided interval, in (0, 1).
        seed: Equal seeds give equal evidence, to the bit.
        min_delta: An improvement has to be larger than this; finite and not negative.
        resamples: Resamples of the bootstrap.

    Raises:
        InvalidRequestError: The queries differ in number, a value is not finite, or an option is out of range.

    """
    if not 0.0 <= min_delta < float("inf"):
        raise InvalidRequestError(f"min_delta must be finite and at least 0, got {min_delta}")
    better, worse = (reference, current) if mode == "min" else (current, reference)
    key = "the monitored metric"
    found = compare({key: better}, {key: worse}, seed=seed, resamples=resamples, confidence=confidence)[key]
    standing: Standing = "undecided"
    if found.low > min_delta:
        standing = "improved"
    elif found.high < min_delta:
        standing = "worse"
    return Evidence(standing, found.difference, found.low, found.high, min_delta)


@dataclass(frozen=True)
class ConfidentPatienceState:
    """What early stopping with a confidence remembers, beside the per-query values of its reference."""

    wait: int = 0
    """Epochs counted against the patience."""

    spared: int = 0
    """Undecided epochs since the last measured improvement that were not counted."""


@dataclass(frozen=True)
class ConfidentPatience:
    """Early stopping that does not count an epoch until it is clear that it is no better.

    The reference is the best measured epoch. A higher value starts the count anew, proven or not: one that is
    only lucky makes training longer and never shorter. A value that is worse beyond doubt counts at once. Of
    those in between the first `grace` are spared, so that on few queries, where nearly everything is
    undecided, training goes on a little longer, and on many queries it ends as soon as with plain patience.
    `benchmarks/decisions.py` measures what this costs and saves.
    """

    patience: int = 2
    """Counted epochs at which training stops."""

    grace: int = 1
    """Undecided epochs in a row that are not counted."""

    def step(self, state: ConfidentPatienceState, evidence: Evidence) -> tuple[ConfidentPatienceState, bool]:
        """Takes one epoch's evidence against the reference.

        Returns:
            What to remember, and whether training stops. The reference moves to this epoch iff
            `evidence.measured_better`.

        """
        if evidence.measured_better:
            return ConfidentPatienceState(), False
        if evidence.standing == "undecided" and state.spared < self.grace:
            return ConfidentPatienceState(state.wait, state.spared + 1), False
        counted = ConfidentPatienceState(state.wait + 1, state.spared)
        return counted, counted.wait >= self.patience


def replaces(evidence: Evidence) -> bool:
    """Tells whether best-checkpoint selection with a confidence takes this epoch in place of the one it holds.

    Evidence is against the epoch that is held: gains too small to prove one by one add up until they are.
    """
    return evidence.standing == "improved"
