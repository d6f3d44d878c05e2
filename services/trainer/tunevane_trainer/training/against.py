"""Measurements against the model before training: what changed beyond doubt, and what the queries can tell at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from tunevane.api.type.v1 import metric_pb2
from tunevane.core.statistics import Floats, compare, smallest_difference

CONFIDENCE = 0.95
"""Level of every interval."""

_SEED, _RESAMPLES = 0, 2_000

PerQuery = Mapping[str, Floats]
"""Value of each query [q] by full name of a metric."""


class Against:
    """The values by query before training. Threads may share it: asking twice gives the same."""

    def __init__(self, ask: Callable[[], PerQuery]) -> None:
        """Args: what gives the values; called when they are first needed, so a resumed run asks only then."""
        self._ask = ask
        self._before: PerQuery | None = None

    def intervals(self, now: PerQuery) -> dict[str, metric_pb2.Interval]:
        """Returns how much each metric changed since before training, as paired bootstrap intervals."""
        before = self._values()
        # Evaluations have query sets of their own, and only metrics of as many queries can be resampled together.
        by_count: dict[int, dict[str, Floats]] = {}
        for name, values in now.items():
            if name in before:
                by_count.setdefault(len(values), {})[name] = values
        found: dict[str, metric_pb2.Interval] = {}
        for common in by_count.values():
            compared = compare(common, before, seed=_SEED, resamples=_RESAMPLES, confidence=CONFIDENCE)
            for name, each in compared.items():
                found[name] = metric_pb2.Interval(low=each.low, high=each.high, confidence=CONFIDENCE)
        return found

    def noise(self, now: PerQuery, preferred: Sequence[str]) -> str:
        """Says which differences these queries cannot tell from noise, for one metric; empty where nothing can be said.

        Args:
            now: Values of the first epoch that was measured.
            preferred: Metrics that people look at, the most important first; else the first that was measured.

        """
        before = self._values()
        for name in [*preferred, *now]:
            if name in now and name in before:
                return smallest_difference(name, now[name], before[name], confidence=CONFIDENCE).sentence()
        return ""

    def _values(self) -> PerQuery:
        if self._before is None:
            self._before = self._ask()
        return self._before
