"""One row of a data set as it was understood, whatever it was read from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tunevane.core.dataset import Content, Kind


@dataclass(frozen=True)
class Row:
    """One row: a single content, or a pair of contents."""

    number: int
    """Where it stands in the source, from 1."""

    first: Content
    """The content, or the first of a pair."""

    second: Content | None = None
    """The second of a pair; None for a single content."""

    score: float | None = None
    """How alike the two of a pair are; None where the pair has no score."""

    id: str = ""
    """Given by the user; empty where one is to be made up."""

    label: str | None = None
    """Canonical label of a single content."""

    relevant: Mapping[str, float] = field(default_factory=dict)
    """Judgements of a single content: grade by document id."""

    @property
    def kind(self) -> Kind:
        """Kind of the data set that has such rows."""
        if self.second is None:
            return "items"
        return "pairs" if self.score is None else "scored"
