"""The page that lists runs, and the page for what is not there."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

from tunevane_tracker.book import Book
from tunevane_tracker.journal import TrackedRun
from tunevane_tracker.page.html import document, escape, moment, number, pill
from tunevane_tracker.state import RunState


def listing_page(runs: Sequence[TrackedRun], book: Book) -> str:
    """Lists runs with their state, the metric that decided, and when they started."""
    if not runs:
        empty = '<div class="card empty">No run yet. Start one with <code>tunevane.fit(...)</code>.</div>'
        return document("Runs", f"<h1>Runs</h1>{empty}", refresh_seconds=10)
    rows = [book.read(run, lambda state, run=run: _row(run, state)) for run in runs]  # type: ignore[misc]
    heads = ("Run", "State", "Model", "Epoch", "Retrieval", "Started")
    head = "".join(f'<th scope="col">{name}</th>' for name in heads)
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    return document("Runs", f'<h1>Runs</h1><div class="card scroll runs">{table}</div>', refresh_seconds=10)


def missing_page(message: str) -> str:
    """Says that something is not there."""
    return document("Not found", f'<h1>Not found</h1><div class="card"><p>{escape(message)}.</p></div>')


def _row(run: TrackedRun, state: RunState) -> str:
    monitor = deciding_metric(state)
    phases = state.phases()
    before, best = phases["before"].get(monitor), (phases["after"] or phases["best"]).get(monitor)
    epochs = f"{state.epoch} / {state.epochs_planned}" if state.epochs_planned else "–"
    score = "–"
    if monitor:
        arrow = "" if before is None else f'<span class="soft">{number(before)} →</span> '
        score = f'{arrow}<b>{number(best)}</b> <small class="soft">{escape(monitor)}</small>'
    cells = (
        pill(state.status),
        escape(run.config.get("model", "–")),
        epochs,
        score,
        moment(state.started_seconds or run.created),
    )
    link = f'<a href="/runs/{quote(run.name)}">{escape(run.name)}</a>'
    return f'<tr><th scope="row">{link}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'


def deciding_metric(state: RunState) -> str:
    """Names the metric that the callbacks look at; the first one measured when none was looked at."""
    measured = {**state.before, **state.after}
    for decision in reversed(state.decisions):
        if decision.monitor in measured:
            return decision.monitor
    return min(measured, default="")
