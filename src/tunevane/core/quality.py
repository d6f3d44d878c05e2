"""Estimates the true quality of every epoch from the per-query values of all of them.

The measured mean m_t of an epoch is its true quality plus the luck of the draw of queries. Luck is shared: the
same queries are asked at every epoch, so most of it is common to all epochs and cancels between them, and what is
left is correlated from epoch to epoch. Its covariance N [e, e] is known, because it is that of the per-query
values over queries, divided by their number. The truth is a learning curve plus what the family of curves cannot
express: a smooth deviation (an integrated random walk) and a jitter of each epoch. With V = N + deviation + jitter:

    weight of a curve f  ~  exp(-(m - f)' V^-1 (m - f) / 2) / sqrt(det V)
    estimate             =  sum over curves and sizes of weight * (f + (V - N) V^-1 (m - f))

which is the posterior mean under a mixture of Gaussian processes (C. Rasmussen, C. Williams, "Gaussian Processes for
Machine Learning", 2006, chapter 2); sizes of deviation and jitter are averaged over, too. The level is free.
Choosing the epoch with the highest posterior mean has the least expected regret of all choices.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from tunevane.core.learning_curves import family
from tunevane.core.statistics import Floats

Ints: TypeAlias = npt.NDArray[np.int64]

SAMPLE = 1024
"""Queries that the covariance is computed from; means come from all. 1024 give it to within 5 %."""

JITTERS = (0.0015, 0.004, 0.01, 0.025, 0.1)
"""Sizes of an epoch's own ups and downs, in standard deviations of the metric over queries."""

JITTER_SHARES = (0.245, 0.245, 0.245, 0.245, 0.02)
"""How likely each of them is held to be. The largest is an exception that explains whatever no curve does, so that a
run like no other is judged by its means."""

DEVIATIONS = (0.003, 0.012, 0.04)
"""Sizes of the smooth deviation from a curve: how much its slope changes per epoch, in the same unit."""

STATIONARY_WEIGHT = 200
"""Queries that the assumption counts as, that luck is equally correlated at equal distances between epochs."""

_LEVEL = 100.0
"""Variance of the level; so wide that it is as good as unknown."""


@dataclass(frozen=True)
class Measurement:
    """What is remembered of a measured epoch."""

    epoch: int
    """The epoch, from 1."""

    mean: float
    """Mean over all queries; larger is better."""

    sample: Floats
    """Values of at most `SAMPLE` queries [s], the same queries at every epoch."""


@dataclass(frozen=True)
class Estimate:
    """What is known of the epochs after the latest of them."""

    quality: Floats
    """Estimated true quality of each epoch [e]."""

    chance: Floats
    """Chance that the epoch after the latest is better than this one by more than `min_delta` [e]."""


def sample(values: Floats) -> Floats:
    """Takes the values of at most `SAMPLE` queries, spread over all of them, the same at every call."""
    count = len(values)
    if count <= SAMPLE:
        return values
    return values[np.arange(SAMPLE) * count // SAMPLE]


def estimate(measured: Sequence[Measurement], queries: int, min_delta: float = 0.0) -> Estimate:
    """Estimates the quality of epochs.

    Args:
        measured: The epochs [e], at least one, in ascending order; larger values are better.
        queries: Number of queries that the means are over.
        min_delta: What an improvement has to exceed, for `Estimate.chance`.

    """
    means = np.array([each.mean for each in measured])
    if len(measured[0].sample) < 2:
        return Estimate(means, np.zeros(len(means)))
    covariance = np.cov(np.stack([each.sample for each in measured])).reshape(len(means), len(means))
    unit = float(np.sqrt(covariance.diagonal().mean()))
    if unit == 0.0:
        # Every query has one value, so nothing depends on which queries were drawn.
        return Estimate(means, np.zeros(len(means)))
    # Epochs of one run differ by what training did to single queries; only that is uncertain between epochs.
    epochs = np.array([each.epoch for each in measured])
    noise = _stationary(covariance / unit**2, epochs, queries) / queries
    quality, chance = _mixture((means - means[0]) / unit, noise, epochs, min_delta / unit)
    return Estimate(means[0] + unit * quality, chance)


def _stationary(covariance: Floats, epochs: Ints, queries: int) -> Floats:
    """Moves a covariance [e, e] towards one whose correlations depend on the distance between epochs [e] alone."""
    spread = np.sqrt(np.maximum(covariance.diagonal(), 1e-12))
    correlation = covariance / np.outer(spread, spread)
    distance = np.abs(np.subtract.outer(epochs, epochs))
    sums = np.bincount(distance.ravel(), correlation.ravel())
    by_distance = sums / np.maximum(np.bincount(distance.ravel()), 1)
    share = STATIONARY_WEIGHT / (STATIONARY_WEIGHT + queries)
    mixed = (share * by_distance[distance] + (1.0 - share) * correlation) * np.outer(spread, spread)
    # Averages along diagonals may leave the cone of covariances by a little.
    roots, vectors = np.linalg.eigh(mixed)
    inside: Floats = (vectors * np.maximum(roots, 0.0)) @ vectors.T
    return inside


def _mixture(values: Floats, noise: Floats, epochs: Ints, least: float) -> tuple[Floats, Floats]:
    """Averages over curves, deviations and jitters.

    Args:
        values: Means [e], in units.
        noise: Covariance of their luck [e, e].
        epochs: Numbers of the epochs [e], ascending.
        least: What an improvement has to exceed, in units.

    Returns:
        The posterior mean of the quality [e], and the chance that the next epoch is better than each [e].
    """
    all_curves = family(int(epochs[-1]) + 1)
    curves = np.ascontiguousarray(all_curves[:, epochs])
    following = all_curves[:, -1]
    walk = _integrated_walk((epochs - epochs[0]).astype(np.float64))
    logs, means, weights = [], [], []
    for deviation in DEVIATIONS:
        for jitter, share in zip(JITTERS, JITTER_SHARES, strict=True):
            prior = deviation**2 * walk + jitter**2 * np.eye(len(values)) + _LEVEL
            inverse = np.linalg.inv(noise + prior)
            apart = curves - values
            exponents = -0.5 * np.einsum("ct,ct->c", apart @ inverse, apart)
            highest = float(exponents.max())
            weight = np.exp(exponents - highest)
            total = float(weight.sum())
            logs.append(np.log(share * total) + highest + 0.5 * np.linalg.slogdet(inverse)[1])
            curve = weight @ curves / total
            means.append(curve + prior @ inverse @ (values - curve))
            weights.append(weight / total)
    shares = np.exp(np.array(logs) - max(logs))
    shares /= shares.sum()
    quality = shares @ np.stack(means)
    weight = shares @ np.stack(weights)
    chance = weight @ (following[:, None] > curves + least)
    return quality, chance


def _integrated_walk(times: Floats) -> Floats:
    """Covariance [e, e] of an integrated Wiener process: integral of (s - u)(t - u) over u from 0 to min(s, t)."""
    first, last = np.minimum.outer(times, times), np.maximum.outer(times, times)
    walk: Floats = first**2 * (3.0 * last - first) / 6.0
    return walk
