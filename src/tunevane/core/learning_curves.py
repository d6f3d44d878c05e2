"""A family of learning curves: what the quality of a model may look like from epoch to epoch.

A curve's slope is a rate of learning that falls off less a rate of overfitting that sets in:

    f'(t) = A * exp(-(t / a)^p) - B * (1 - exp(-(t / b)^r))

The six parameters are spread over all that is plausible, so the family says little more than that fine-tuning
has diminishing returns and may turn harmful: curves may rise for ever, level off, peak early or late, or only fall.
Positions in the space of parameters come from an additive recurrence (M. Roberts, "The unreasonable
effectiveness of quasirandom sequences", 2018), so they need no random generator and never change.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from tunevane.core.statistics import Floats

CURVES = 4096
"""Members of the family."""

RANGES = (
    (0.003, 4.0),  # A, learning per epoch, in standard deviations of the metric over queries
    (0.3, 20.0),  # a, epochs until learning has slowed down
    (0.6, 2.0),  # p, how suddenly
    (0.001, 0.3),  # B, harm per epoch, in the same unit
    (0.5, 40.0),  # b, epochs until harm has set in
    (0.7, 8.0),  # r, how suddenly
)
"""Lowest and highest value of each parameter; between them they are spread evenly on a logarithmic scale."""

_PADDING = 32
"""Epochs are rounded up to a multiple of this, so that growing runs reuse what was computed."""


def family(epochs: int) -> Floats:
    """Returns all curves [c, epochs + 1] in standard deviations over queries, from epoch 0, where each is 0."""
    return _family(-(-max(epochs, 1) // _PADDING) * _PADDING)[:, : epochs + 1]


@lru_cache(maxsize=2)
def _family(epochs: int) -> Floats:
    low, high = np.log(np.array(RANGES)).T
    learning, slowing, abruptly, harm, onset, suddenly = np.exp(
        low[:, None] + (high - low)[:, None] * _spread(CURVES, len(RANGES)).T
    )
    middle = np.arange(epochs) + 0.5
    learned = learning[:, None] * np.exp(-((middle / slowing[:, None]) ** abruptly[:, None]))
    harmed = harm[:, None] * -np.expm1(-((middle / onset[:, None]) ** suddenly[:, None]))
    curves = np.zeros((CURVES, epochs + 1))
    np.cumsum(learned - harmed, axis=1, out=curves[:, 1:])
    curves.flags.writeable = False
    return curves


def _spread(count: int, dimensions: int) -> Floats:
    """Spreads points [count, dimensions] evenly over the unit cube."""
    # The generalised golden ratio: the root above 1 of x^(d + 1) = x + 1.
    ratio = 2.0
    for _ in range(64):
        ratio = (1.0 + ratio) ** (1.0 / (dimensions + 1))
    steps = ratio ** -np.arange(1.0, dimensions + 1)
    points: Floats = (0.5 + np.outer(np.arange(1, count + 1), steps)) % 1.0
    return points
