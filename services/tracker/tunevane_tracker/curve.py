"""A series of points that stays small however long a run is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

LIMIT = 2000
"""Points kept; a picture of a curve has fewer pixels."""


class Point(NamedTuple):
    """One value of a curve."""

    step: int
    """Optimizer steps taken."""

    epoch: int
    """Epoch it belongs to, from 1."""

    value: float
    """The value; may be NaN or infinite."""


@dataclass
class Curve:
    """Keeps every n-th point, and doubles n whenever `LIMIT` is passed.

    Which points are kept depends only on the sequence of points, not on when they arrived.
    """

    points: list[Point] = field(default_factory=list)
    """The kept points, by step."""

    stride: int = 1
    """One of this many points is kept."""

    seen: int = 0
    """Points added so far."""

    last: Point | None = None
    """The newest point, kept or not."""

    def add(self, point: Point) -> None:
        """Appends a point."""
        if self.seen % self.stride == 0:
            self.points.append(point)
        self.seen += 1
        self.last = point
        if len(self.points) > LIMIT:
            self.points = self.points[::2]
            self.stride *= 2

    def passes_over(self) -> bool:
        """Counts the next point if it is not one to keep, and tells whether it did; otherwise it has to be added."""
        if self.seen % self.stride == 0:
            return False
        self.seen += 1
        return True

    def drop_after(self, epoch: int) -> None:
        """Forgets what later epochs brought, because they are trained again."""
        self.points = [point for point in self.points if point.epoch <= epoch]
        self.last = self.points[-1] if self.points else None
        self.seen = len(self.points) * self.stride

    def all(self) -> list[Point]:
        """Lists the kept points and the newest."""
        if self.last is None or (self.points and self.points[-1] == self.last):
            return list(self.points)
        return [*self.points, self.last]
