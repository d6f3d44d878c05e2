"""Error bars for metrics: paired comparisons over queries, for all metrics from one set of random signs.

Two evaluations of the same queries give a difference d_i per query and metric. A resample is a vector of
random signs s_i, and both answers come from the sums of s_i * d_i:

- the sign-flip (paired randomisation) test: if nothing had changed, every d_i were as likely to be -d_i, so
  the p-value is the share of resamples whose sum is at least as far from 0 as the one observed, counted with
  the observed one (M. Smucker, J. Allan, B. Carterette, CIKM 2007; B. Phipson, G. Smyth, 2010);
- the double-or-nothing bootstrap: each query is taken twice or not at all, weights 1 + s_i, which have mean
  and variance 1 as in the usual bootstrap (A. Owen, D. Eckles, Annals of Applied Statistics 6(3), 2012).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from tunevane.errors import InvalidRequestError

Floats: TypeAlias = npt.NDArray[np.float64]

_SIGNS = (2.0 * np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1) - 1.0).astype(np.float32)
"""The eight signs that a random byte stands for [256, 8]."""

_BLOCK_SIGNS = 2_000_000
"""Signs held at once, so that they stay near the core."""


@dataclass(frozen=True)
class Comparison:
    """How one metric changed from one evaluation to another over the same queries."""

    difference: float
    """Mean of current - previous."""

    low: float
    """Lower end of the bootstrap interval of the difference."""

    high: float
    """Upper end of the interval."""

    p_value: float
    """Two-sided p-value of the sign-flip test, in (0, 1]; 1 where no query changed."""


@dataclass(frozen=True)
class Detectable:
    """The smallest difference of a metric that a set of queries can tell from noise."""

    metric: str
    """The metric."""

    queries: int
    """Number of queries."""

    difference: float
    """Differences under this lie within the interval around 0."""

    def sentence(self) -> str:
        """Says it to a person; a point is 0.01."""
        points = f"{100 * self.difference:.1f}"
        return f"with {self.queries} queries, differences under {points} points of {self.metric} are noise"


def compare(
    current: Mapping[str, Floats],
    previous: Mapping[str, Floats],
    *,
    seed: int,
    resamples: int = 10_000,
    confidence: float = 0.95,
) -> dict[str, Comparison]:
    """Compares two evaluations of the same queries in the same order, for every metric that both have.

    Args:
        current: Value of each query [q] by metric.
        previous: The same of the evaluation to compare with.
        seed: Equal seeds give equal results, to the bit.
        resamples: Number of random sign vectors.
        confidence: Coverage of the two-sided interval, in (0, 1).

    Raises:
        InvalidRequestError: There is nothing to compare, the queries differ in number, or an option is out of range.

    """
    if resamples < 1:
        raise InvalidRequestError(f"resamples must be at least 1, got {resamples}")
    check_confidence(confidence)
    names = [name for name in current if name in previous]
    if not names:
        raise InvalidRequestError("the two evaluations have no metric in common, so there is nothing to compare")
    differences = np.stack([paired(current[name], previous[name], name) for name in names], axis=1)
    mean = differences.mean(axis=0)
    sums, balance = _resample(differences, seed, resamples)
    queries = len(differences)
    # Sums in single precision are exact for 0/1 metrics and else good to about 1e-6 of the whole: a resample
    # that equals the observed sum must not be lost to rounding.
    slack = 1e-5 * np.abs(differences).sum(axis=0)
    extreme = (np.abs(sums) >= np.abs(mean) * queries - slack).sum(axis=0)
    p_values = (extreme + 1.0) / (resamples + 1.0)
    weights = queries + balance
    means = np.divide(
        mean * queries + sums,
        weights[:, None],
        out=np.broadcast_to(mean, sums.shape).copy(),
        where=weights[:, None] > 0,
    )
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(means, [tail, 1.0 - tail], axis=0)
    return {
        name: Comparison(float(mean[i]), float(low[i]), float(high[i]), float(p_values[i]))
        for i, name in enumerate(names)
    }


def smallest_difference(
    metric: str, current: Floats, previous: Floats | None = None, *, confidence: float = 0.95
) -> Detectable:
    """Estimates the smallest difference that this query set can detect: z * the standard error of the difference.

    Args:
        metric: Name of the metric, for the sentence.
        current: Value of each query [q].
        previous: Values of another evaluation [q]; None, or equal values: two evaluations are taken as
            independent, which overstates the noise of a paired comparison.
        confidence: Two-sided level, in (0, 1).

    Raises:
        InvalidRequestError: There are no queries, their numbers differ, or the confidence is out of range.

    """
    check_confidence(confidence)
    differences = paired(current, current if previous is None else previous, metric)
    queries = len(differences)
    # Dividing by q - 1 makes the variance unbiased; one query alone tells nothing, so it counts with its value.
    spread = float(differences.std(ddof=1)) if queries > 1 else abs(float(differences[0]))
    if spread == 0.0:
        values = np.asarray(current, np.float64)
        alone = float(values.std(ddof=1)) if queries > 1 else abs(float(values[0]))
        spread = math.sqrt(2.0) * alone
    z = NormalDist().inv_cdf(0.5 + confidence / 2.0)
    return Detectable(metric, queries, z * spread / math.sqrt(queries))


def paired(current: Floats, previous: Floats, metric: str) -> Floats:
    """Returns current - previous per query [q].

    Raises:
        InvalidRequestError: There are no queries, their numbers differ, or a value is not finite.

    """
    a, b = np.asarray(current, np.float64), np.asarray(previous, np.float64)
    if a.ndim != 1 or a.shape != b.shape or len(a) == 0:
        raise InvalidRequestError(
            f"metric '{metric}': a paired comparison needs the same queries on both sides, got {a.shape} and {b.shape}"
        )
    difference: Floats = a - b
    if not np.isfinite(difference).all():
        raise InvalidRequestError(f"metric '{metric}' has a value that is not finite, so it cannot be compared")
    return difference


def check_confidence(confidence: float) -> None:
    """Refuses a level outside (0, 1).

    Raises:
        InvalidRequestError: It is.

    """
    if not 0.0 < confidence < 1.0:
        raise InvalidRequestError(f"confidence must lie between 0 and 1, for example 0.95, got {confidence}")


def _resample(differences: Floats, seed: int, resamples: int) -> tuple[Floats, Floats]:
    """Sums s_i * d_i over queries for random signs.

    Args:
        differences: [q, m].
        seed: Of the generator.
        resamples: How many sums, b.

    Returns:
        The sums [b, m] and the sums of the signs alone [b].

    """
    random = np.random.Generator(np.random.SFC64(seed))
    queries, metrics = differences.shape
    octets = -(-queries // 8)
    # Padding to whole bytes: differences of 0 that no sign changes; a last column of ones counts the signs.
    padded = np.zeros((octets * 8, metrics + 1), np.float32)
    padded[:queries, :metrics] = differences
    padded[:queries, metrics] = 1.0
    rows = min(max(_BLOCK_SIGNS // (octets * 8), 1), resamples)
    signs = np.empty((rows * octets, 8), np.float32)
    sums = np.empty((resamples, metrics + 1), np.float32)
    for at in range(0, resamples, rows):
        count = min(rows, resamples - at)
        words = random.integers(0, 256, count * octets, np.uint8)
        block = signs[: count * octets]
        np.take(_SIGNS, words, axis=0, out=block, mode="clip")
        np.matmul(block.reshape(count, octets * 8), padded, out=sums[at : at + count])
    return sums[:, :metrics].astype(np.float64), sums[:, metrics].astype(np.float64)
