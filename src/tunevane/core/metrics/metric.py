"""What a metric is: a name, a direction, a range, a formula and a function of the scored results."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from tunevane.core.metrics.ranking import Floats
from tunevane.core.metrics.results import Results

Direction = Literal["max", "min"]


@dataclass(frozen=True)
class MetricInfo:
    """What a person should know about a metric."""

    name: str
    """The name it is asked for by; `ndcg@k` stands for `ndcg@10` and every other cut-off."""

    direction: Direction
    """Which way is better: `min` for anything that ends in `loss`, else `max`."""

    range: tuple[float, float]
    """Smallest and largest value."""

    formula: str
    """How one query is scored."""

    summary: str
    """One sentence for a person."""


@dataclass(frozen=True)
class Metric:
    """One metric; the entry point of a plug-in in the group `tunevane.metrics` names one of these."""

    name: str
    """As in `MetricInfo`; a name that ends in `@k` takes cut-offs, any other is scored at `limit`."""

    score: Callable[[Results, int], Floats]
    """Gives one finite number per query [q] from the results and the cut-off."""

    range: tuple[float, float]
    """Smallest and largest value."""

    formula: str
    """How one query is scored; R: relevant documents in the index, n: results, h: relevant among them."""

    summary: str
    """One sentence for a person."""

    needs_all_relevant: bool = False
    """Whether the search has to go as deep as the largest R, beyond any cut-off."""

    @property
    def takes_cutoff(self) -> bool:
        """Whether it is asked for with a cut-off, as in `ndcg@10`."""
        return self.name.endswith("@k")

    @property
    def info(self) -> MetricInfo:
        """The description of this metric."""
        family = self.name.removesuffix("@k")
        direction: Direction = "min" if family.endswith("loss") else "max"
        return MetricInfo(self.name, direction, self.range, self.formula, self.summary)
