"""OpenMetrics with times: what Prometheus would have scraped, but with every step.

`promtool tsdb create-blocks-from openmetrics FILE DATA` makes blocks of it that a Prometheus serves.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tunevane_tracker.export.source import Source
from tunevane_tracker.fold import apply
from tunevane_tracker.sinks.families import FAMILIES, Family, Sample, plain_samples, samples
from tunevane_tracker.state import RunState

AGAIN_MILLIS = 60_000
"""A value that stays is repeated after this time: Prometheus forgets what it has not seen for five minutes."""

EVERY_STEP = {"tunevane_run_train_loss", "tunevane_run_learning_rate", "tunevane_run_train_steps_total"}
"""Families with a point at each reported step, changed or not."""


@dataclass
class _Points:
    """The points of one series."""

    millis: array[int] = field(default_factory=lambda: array("q"))
    """Times, Unix milliseconds, each later than the one before."""

    values: array[float] = field(default_factory=lambda: array("d"))
    """Values."""

    def add(self, millis: int, value: float) -> None:
        """Appends a point; Prometheus keeps one for each millisecond, so the next one is a little later."""
        self.millis.append(max(millis, self.millis[-1] + 1) if self.millis else millis)
        self.values.append(value)

    def says(self, millis: int, value: float) -> bool:
        """Tells whether the last point says the same and is recent."""
        return bool(self.values) and self.values[-1] == value and millis - self.millis[-1] < AGAIN_MILLIS


def write(source: Source, path: Path) -> None:
    """Writes a run into a file."""
    found = _collect(source)
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for family in FAMILIES:
            series = [(labels, points) for (name, labels), points in found.items() if name == family.name]
            if not series:
                continue
            file.writelines(_head(family))
            for labels, points in series:
                file.writelines(_lines(family, labels, points))
        file.write("# EOF\n")


def _collect(source: Source) -> dict[tuple[str, tuple[str, ...]], _Points]:
    run, state = source.run, RunState()
    found: dict[tuple[str, tuple[str, ...]], _Points] = {}
    now = seen = 0
    for event in source.events:
        apply(state, event, over_holes=True)
        # A worker's clock may be behind that of the one before.
        now = max(now, round(state.last_event_seconds * 1000))
        is_step = event.HasField("step_reported")
        whole = not is_step or now - seen >= AGAIN_MILLIS
        if whole:
            seen = now
        shown: Iterator[Sample] = (
            samples(run.uid, run.name, run.config, state) if whole else plain_samples(run.uid, state)
        )
        for name, labels, value in shown:
            points = found.setdefault((name, labels), _Points())
            if (is_step and name in EVERY_STEP) or not points.says(now, value):
                points.add(now, value)
    for name, labels, value in samples(run.uid, run.name, run.config, state):
        points = found.setdefault((name, labels), _Points())
        if not points.millis or points.millis[-1] < now:
            points.add(now, value)
    return found


def _head(family: Family) -> Iterator[str]:
    name = family.name.removesuffix("_total")
    yield f"# HELP {name} {family.text}\n"
    yield f"# TYPE {name} {family.kind}\n"


def _lines(family: Family, labels: tuple[str, ...], points: _Points) -> Iterator[str]:
    inside = ",".join(f'{key}="{_escaped(text)}"' for key, text in zip(family.labels, labels, strict=True))
    for millis, value in zip(points.millis, points.values, strict=True):
        yield f"{family.name}{{{inside}}} {_number(value)} {millis / 1000:.3f}\n"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _number(value: float) -> str:
    if value != value:
        return "NaN"
    return {float("inf"): "+Inf", float("-inf"): "-Inf"}.get(value) or repr(value)
