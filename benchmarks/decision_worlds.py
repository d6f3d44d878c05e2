"""Worlds for `decisions.py`: what the true quality does from epoch to epoch, and what luck adds to it by query.

Those marked as held out were written down after the rules had been finished and changed nothing in them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

EPOCHS = 20
CONSTANT, DEVIATION = 0.25, 0.2
"""Standard deviations over queries of what a query adds at every epoch, and of what it adds at this one."""

POPULATION = 40_000
"""Queries that the truth of a world is the mean over where it has no closed form."""

Values = npt.NDArray[np.float64]
Curve = Callable[[np.random.Generator, int], Values]
"""Draws the smooth part of the true quality [n, epochs]."""

EPOCH = np.arange(1.0, EPOCHS + 1)


@dataclass(frozen=True)
class World:
    """A way for runs to go."""

    curve: Curve
    """The smooth part of the true quality."""

    jitter: float = 0.002
    """Standard deviation of what an epoch's true quality adds to it."""

    correlation: float = 0.7
    """Of a query's deviation from one epoch to the next."""

    luck: str = "normal"
    """How deviations are distributed, or what a query's latent value turns into: `heavy`, `rank` or `hit`."""

    held_out: bool = False
    """Whether the rules were finished before."""

    def noise(self, queries: int) -> Values:
        """Covariance of the means' luck [epochs, epochs]."""
        distance = np.abs(np.subtract.outer(EPOCH, EPOCH))
        covariance: Values = (DEVIATION**2 * self.correlation**distance + CONSTANT**2) / queries
        return covariance

    def draw(self, seed: int, queries: int) -> tuple[Values, Values]:
        """Draws a run: true quality [epochs] and values by query [epochs, q]."""
        random = np.random.default_rng((seed, queries))
        truth = self.curve(random, 1)[0] + self.jitter * random.standard_normal(EPOCHS)
        count = POPULATION if self.luck == "rank" else queries
        latent = truth[:, None] + CONSTANT * random.standard_normal(count) + DEVIATION * self._deviations(random, count)
        if self.luck == "hit":
            spread = float(np.hypot(CONSTANT, DEVIATION))
            chance = np.array([NormalDist(0.5, spread).cdf(value) for value in truth])
            return chance, (latent > 0.5).astype(np.float64)
        if self.luck == "rank":
            ranks = np.ceil(np.exp(np.maximum(12.0 * (0.55 - latent), 0.0)))
            values = np.where(ranks <= 20, 1.0 / ranks, 0.0)
            return values.mean(axis=1), values[:, :queries]
        return truth, latent

    def _deviations(self, random: np.random.Generator, count: int) -> Values:
        fresh = random.standard_normal((EPOCHS, count))
        if self.luck == "heavy":
            fresh = random.standard_t(3.0, (EPOCHS, count)) / np.sqrt(3.0)
        found = np.empty_like(fresh)
        found[0] = fresh[0]
        for i in range(1, EPOCHS):
            found[i] = self.correlation * found[i - 1] + np.sqrt(1.0 - self.correlation**2) * fresh[i]
        return found


def peak(
    gain: tuple[float, float], pace: tuple[float, float], top: tuple[float, float], fall: tuple[float, float]
) -> Curve:
    """Rises with diminishing returns, and falls in a straight line from some epoch on."""

    def curve(random: np.random.Generator, count: int) -> Values:
        draw = [random.uniform(*each, (count, 1)) for each in (gain, pace, top, fall)]
        falling: Values = 0.4 + draw[0] * -np.expm1(-EPOCH / draw[1]) - draw[3] * np.maximum(EPOCH - draw[2], 0.0)
        return falling

    return curve


def late_start(random: np.random.Generator, count: int) -> Values:
    """Nothing for some epochs, then a steep rise to a plateau that crumbles."""
    gain, middle, width, fall = (
        random.uniform(*each, (count, 1)) for each in ((0.05, 0.3), (3.0, 8.0), (0.5, 1.5), (0.0, 0.006))
    )
    rising: Values = (
        0.4 + gain / (1.0 + np.exp((middle - EPOCH) / width)) - fall * np.maximum(EPOCH - middle - 4.0, 0.0)
    )
    return rising


def second_wind(random: np.random.Generator, count: int) -> Values:
    """Rises, stands still, and rises again, as when the learning rate is lowered."""
    first, pace, when, second = (
        random.uniform(*each, (count, 1)) for each in ((0.05, 0.2), (0.5, 2.0), (6.0, 13.0), (0.01, 0.05))
    )
    rising: Values = 0.4 - first * np.expm1(-EPOCH / pace) + np.where(when < EPOCH, second, 0.0)
    return rising


def collapse(random: np.random.Generator, count: int) -> Values:
    """Rises, breaks down at once, and recovers in part."""
    gain, pace, when, loss, recovery = (
        random.uniform(*each, (count, 1)) for each in ((0.05, 0.3), (1.0, 4.0), (4.0, 12.0), (0.05, 0.2), (0.0, 0.6))
    )
    after = np.maximum(EPOCH - np.ceil(when), 0.0)
    lost = np.where(when <= EPOCH, loss * (1.0 + recovery * np.expm1(-after / 2.0)), 0.0)
    broken: Values = 0.4 - gain * np.expm1(-EPOCH / pace) - lost
    return broken


USUAL = peak((0.05, 0.3), (1.0, 4.0), (3.0, 12.0), (0.002, 0.01))

WORLDS = {
    "usual": World(USUAL),
    "smooth": World(USUAL, jitter=0.0),
    "rough": World(USUAL, jitter=0.006),
    "steady queries": World(USUAL, correlation=0.9),
    "slow": World(peak((0.05, 0.3), (4.0, 10.0), (8.0, 18.0), (0.002, 0.01))),
    "plateau": World(peak((0.05, 0.3), (1.0, 4.0), (3.0, 12.0), (0.0, 0.0))),
    "fast": World(peak((0.02, 0.1), (0.3, 1.0), (1.0, 4.0), (0.005, 0.03))),
    "fickle queries": World(USUAL, correlation=0.3, held_out=True),
    "late start": World(late_start, held_out=True),
    "second wind": World(second_wind, held_out=True),
    "collapse": World(collapse, held_out=True),
    "heavy tails": World(USUAL, luck="heavy", held_out=True),
    "reciprocal rank": World(USUAL, luck="rank", held_out=True),
    "hit": World(USUAL, luck="hit", held_out=True),
}
