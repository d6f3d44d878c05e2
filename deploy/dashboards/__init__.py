"""Grafana dashboards, built in code; `cd deploy && python -m dashboards` writes their files into the chart."""

from __future__ import annotations

from dashboards import fleet, run, tracker
from dashboards.parts import written


def built() -> dict[str, str]:
    """Builds every dashboard; returns the content of the files by their name."""
    boards = {"run": run.build(), "fleet": fleet.build(), "tracker": tracker.build()}
    return {f"tunevane-{name}.json": written(board) for name, board in boards.items()}
