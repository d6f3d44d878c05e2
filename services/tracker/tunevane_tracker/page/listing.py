"""The page that lists runs: filtered and sorted by its address, so that no script is needed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from urllib.parse import quote, urlencode

from tunevane_tracker.book import Book
from tunevane_tracker.journal import TrackedRun
from tunevane_tracker.page.chart import sparkline
from tunevane_tracker.page.document import Document
from tunevane_tracker.page.html import LABELS, change, duration, escape, foreign, moment, number, pill, scrolling
from tunevane_tracker.page.outcome import Outcome, curve, outcome
from tunevane_tracker.state import RunState, Status


@dataclass(frozen=True)
class Row:
    """What the list shows of a run."""

    name: str
    """Its name."""

    status: Status
    """Its state."""

    model: str
    """Name of its model; empty while unknown."""

    epochs: str
    """Epochs done and planned."""

    outcome: Outcome | None
    """How the deciding metric stands; None before it was measured."""

    spark: str
    """The deciding metric by epoch, a small picture."""

    started: float
    """When it started or was created, Unix seconds."""

    took: float
    """Seconds since it started, or that it took."""

    @property
    def gain(self) -> float:
        """Change of the deciding metric; smaller than any other where it is not known."""
        if self.outcome is None or self.outcome.before is None:
            return float("-inf")
        return self.outcome.now - self.outcome.before


SORTS: Mapping[str, tuple[str, Callable[[Row], object]]] = {
    "name": ("Run", lambda row: row.name),
    "state": ("State", lambda row: list(LABELS).index(row.status)),
    "score": ("Retrieval", lambda row: float("-inf") if row.outcome is None else row.outcome.now),
    "gain": ("Change", lambda row: row.gain),
    "started": ("Started (UTC)", lambda row: row.started),
    "took": ("Took", lambda row: row.took),
}
"""Columns by which the list can be sorted: heading, and what is compared."""

DESCENDING_FIRST = frozenset({"score", "gain", "started", "took"})


@dataclass(frozen=True)
class Choice:
    """What of the list is asked for."""

    text: str = ""
    """Shown are runs whose name or model contains it."""

    state: str = ""
    """Shown are runs in this state; empty for all."""

    sort: str = ""
    """Column; empty for running ones first, then the newest."""

    descending: bool = False
    """Whether the largest comes first."""

    @staticmethod
    def of(query: Mapping[str, Sequence[str]]) -> Choice:
        """Reads a page's address; what is not understood is ignored."""
        first = {name: values[0] for name, values in query.items() if values}
        state, sort = first.get("state", ""), first.get("sort", "")
        return Choice(
            first.get("q", "").strip()[:200],
            state if state in LABELS else "",
            sort if sort in SORTS else "",
            first.get("order") == "desc",
        )

    def address(self) -> str:
        """Returns the address of the list so chosen."""
        parts = {"q": self.text, "state": self.state, "sort": self.sort, "order": "desc" if self.descending else ""}
        query = urlencode({name: value for name, value in parts.items() if value})
        return f"/runs?{query}" if query else "/runs"

    def apply(self, rows: Sequence[Row]) -> list[Row]:
        """Filters and sorts."""
        wanted = self.text.casefold()
        kept = [
            row
            for row in rows
            if (not self.state or row.status == self.state)
            and (wanted in row.name.casefold() or wanted in row.model.casefold())
        ]
        if self.sort:
            compared = SORTS[self.sort][1]
            kept.sort(key=compared, reverse=self.descending)  # type: ignore[arg-type]  # one column is of one type
        return kept


def listing_page(runs: Sequence[TrackedRun], book: Book, choice: Choice, now: float, limit: int) -> Document:
    """Lists runs with their state, the metric that decided, and how it moved.

    Args:
        runs: Those to choose from.
        book: Their states.
        choice: Which of them, in which order.
        now: Unix seconds.
        limit: How many runs were asked of the journal.

    """
    rows = [book.read(run, lambda state, run=run: _row(run, state, now)) for run in runs]  # type: ignore[misc]
    if not rows:
        empty = '<div class="card empty"><p>No run yet. Start one with <code>tunevane.fit(...)</code>.</p></div>'
        return Document("Runs", {"head": "<h1>Runs</h1>", "list": empty}, live=True)
    shown = choice.apply(rows)
    more = f'<p class="soft note-line">The newest {limit} runs are listed.</p>' if len(runs) == limit else ""
    table = _table(shown, choice) if shown else '<div class="card empty"><p>No run fits.</p></div>'
    return Document("Runs", {"head": "<h1>Runs</h1>" + _form(choice), "list": table + more}, live=True)


def missing_page(message: str) -> Document:
    """Says that something is not there."""
    return Document(
        "Not found", {"head": "<h1>Not found</h1>", "what": f'<div class="card"><p>{foreign(message)}</p></div>'}
    )


def _row(run: TrackedRun, state: RunState, now: float) -> Row:
    found = outcome(state)
    spark = ""
    if found is not None:
        points = curve(state, found.metric)
        ends = f"{found.metric} from {number(points[0][1])} to {number(points[-1][1])}" if points else ""
        spark = sparkline(points, found.before, ends)
    started = state.started_seconds or run.created
    end = state.last_event_seconds if run.ended is not None else now
    epochs = f"{len(state.epochs)} / {state.epochs_planned}" if state.epochs_planned else "–"
    model = run.config.get("model")
    return Row(run.name, state.status, str(model or ""), epochs, found, spark, started, max(0.0, end - started))


def _form(choice: Choice) -> str:
    options = "".join(
        f'<option value="{value}"{" selected" if value == choice.state else ""}>{word}</option>'
        for value, word in (("", "All states"), *LABELS.items())
    )
    kept = "".join(
        f'<input type="hidden" name="{name}" value="{value}">'
        for name, value in (("sort", choice.sort), ("order", "desc" if choice.descending else ""))
        if value
    )
    return (
        f'<form class="filter" method="get" action="/runs" role="search"><label for="q">Name or model</label>'
        f'<input id="q" name="q" type="search" value="{escape(choice.text)}"><label for="state">State</label>'
        f'<select id="state" name="state">{options}</select>{kept}<button>Filter</button></form>'
    )


def _table(rows: Sequence[Row], choice: Choice) -> str:
    parts = [_head(name, choice) for name in SORTS]
    # Between the change and the start, what nobody sorts by.
    parts[4:4] = [f'<th scope="col" class="wide">{word}</th>' for word in ("Trend", "Epochs")]
    head = "".join(parts)
    compare = '<p class="actions"><button>Compare the selected</button></p>' if len(rows) > 1 else ""
    body = "".join(_line(row, selectable=len(rows) > 1) for row in rows)
    pick = '<th scope="col"><span class="unseen">Select</span></th>' if compare else ""
    table = (
        f'<table class="runs"><caption class="unseen">Runs</caption><thead><tr>{pick}{head}</tr></thead>'
        f"<tbody>{body}</tbody></table>"
    )
    return f'<form method="get" action="/compare">{scrolling("Runs", table)}{compare}</form>'


def _head(name: str, choice: Choice) -> str:
    sorted_ = choice.sort == name
    descending = not choice.descending if sorted_ else name in DESCENDING_FIRST
    address = replace(choice, sort=name, descending=descending).address()
    aria = f' aria-sort="{"descending" if choice.descending else "ascending"}"' if sorted_ else ""
    arrow = f'<span aria-hidden="true">{"↓" if choice.descending else "↑"}</span>' if sorted_ else ""
    style = ' class="wide"' if name in {"started", "took"} else ""
    return f'<th scope="col"{style}{aria}><a href="{escape(address)}">{SORTS[name][0]}{arrow}</a></th>'


def _line(row: Row, *, selectable: bool) -> str:
    score = gain = "–"
    look = "soft"
    if row.outcome is not None:
        _, now, gain = change(row.outcome.before, row.outcome.now)
        look = row.outcome.look
        metric = row.outcome.metric.removeprefix(f"{row.model}_")
        score = f'<b>{now}</b><br><small class="soft">{foreign(metric)}</small>'
    pick = ""
    if selectable:
        label = escape(f"Select {row.name}")
        pick = f'<td><input type="checkbox" name="runs" value="{escape(row.name)}" aria-label="{label}"></td>'
    model = f'<br><small class="soft">{foreign(row.model)}</small>' if row.model else ""
    return (
        f'<tr>{pick}<th scope="row"><a href="/runs/{quote(row.name)}">{foreign(row.name)}</a>{model}</th>'
        f'<td>{pill(row.status)}</td><td>{score}</td><td class="{look}">{gain}</td><td class="wide">{row.spark}</td>'
        f'<td class="wide">{row.epochs}</td><td class="wide">{moment(row.started, zone=False)}</td>'
        f'<td class="wide">{duration(row.took)}</td></tr>'
    )
