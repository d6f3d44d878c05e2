"""The page that puts several runs side by side: curves over each other, metrics, and the settings that differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from tunevane.core.explanation import short_names
from tunevane.core.numbers import decimals, fixed
from tunevane_tracker.page.chart import Chart, Series
from tunevane_tracker.page.document import Document
from tunevane_tracker.page.html import change, escape, foreign, pill, scrolling, section, typographic
from tunevane_tracker.page.outcome import curve, deciding_metric, kept_epoch, metric_names, newest, outcome
from tunevane_tracker.page.settings import differing, flat
from tunevane_tracker.state import RunState

MAX_RUNS = 8
"""More curves than this in one picture cannot be told apart."""

MAX_CURVES = 12
LEFT = ' class="text"'


@dataclass(frozen=True)
class Side:
    """One of the runs."""

    name: str
    """Its name."""

    config: Mapping[str, object]
    """What was asked for."""

    state: RunState
    """What its events say."""


def chosen_names(query: Mapping[str, Sequence[str]]) -> list[str]:
    """Reads the runs of an address, `?runs=a,b` or `?runs=a&runs=b`, each once."""
    names = [name.strip() for value in query.get("runs", ()) for name in value.split(",")]
    return list(dict.fromkeys(name for name in names if name))[:MAX_RUNS]


def compare_page(sides: Sequence[Side], missing: Sequence[str]) -> Document:
    """Compares runs; `missing` names those that were asked for and are not known."""
    head = f"<h1>{len(sides)} runs compared</h1>" if len(sides) > 1 else "<h1>Compare runs</h1>"
    notes = "".join(f"<li>The tracker knows no run {foreign(name)}.</li>" for name in missing)
    warning = f'<section class="note" aria-label="Warnings"><ul>{notes}</ul></section>' if notes else ""
    if len(sides) < 2:
        hint = '<div class="card empty"><p>Select two runs or more in the <a href="/runs">list of runs</a>.</p></div>'
        return Document("Compare", {"head": head + warning, "what": hint})
    sections = {
        "head": head + warning,
        "runs": _overview(sides),
        "curves": section("Curves", _curves(sides)),
        "metrics": section("Metrics", _metrics(sides)),
        "settings": section("Settings that differ", _settings(sides)),
    }
    live = any(side.state.status in {"pending", "running"} for side in sides)
    return Document("Compare " + ", ".join(side.name for side in sides), sections, live=live)


def _overview(sides: Sequence[Side]) -> str:
    rows = []
    for number_, side in enumerate(sides):
        found = outcome(side.state)
        before, now, difference = change(found.before, found.now) if found else ("–", "–", "–")
        others = ",".join(quote(each.name) for each in sides if each is not side)
        without = f'<a href="/compare?runs={others}" aria-label="Leave out {escape(side.name)}">leave out</a>'
        rows.append(
            f'<tr><th scope="row"><i class="swatch s{number_}" aria-hidden="true"></i>'
            f'<a href="/runs/{quote(side.name)}">{foreign(side.name)}</a></th>'
            f'<td class="text">{pill(side.state.status)}</td><td>{before}</td><td><b>{now}</b></td>'
            f'<td class="{found.look if found else "soft"}">{difference}</td>'
            f"<td>{kept_epoch(side.state) or '–'}</td><td>{without if len(sides) > 2 else ''}</td></tr>"
        )
    deciding = {deciding_metric(side.state) for side in sides} - {""}
    what = f" ({escape(deciding.pop())})" if len(deciding) == 1 else ""
    heads = ("Run", "State", "Before", "Now", f"Change{what}", "Kept epoch")
    head = (
        "".join(f'<th scope="col"{LEFT if each == "State" else ""}>{each}</th>' for each in heads)
        + '<th><span class="unseen">Leave out</span></th>'
    )
    table = f'<table><caption class="unseen">Runs</caption><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody>'
    return scrolling("Runs", table + "</table>")


def _names(sides: Sequence[Side]) -> list[str]:
    """Lists the metrics of all runs, those that decide first."""
    names = dict.fromkeys(name for side in sides for name in metric_names(side.state)[:1])
    return list(names | dict.fromkeys(name for side in sides for name in metric_names(side.state)))


def _curves(sides: Sequence[Side]) -> str:
    names = _names(sides)
    shorts = short_names(names)
    figures = []
    for position, name in enumerate(names[:MAX_CURVES]):
        series = [
            Series(side.name, f"s{number_}", points, dots=True)
            for number_, side in enumerate(sides)
            if (points := curve(side.state, name))
        ]
        figures.append(Chart(f"c{position}", shorts[name], "epoch", series, height=200.0))
    for key, title, values in (("train", "train_loss", _train), ("val", "val_loss", _val)):
        series = [
            Series(side.name, f"s{number_}", points, dots=True)
            for number_, side in enumerate(sides)
            if (points := values(side.state))
        ]
        figures.append(Chart(key, title, "epoch", series, height=200.0))
    drawn = "".join(chart.figure(legend=False) for chart in figures if chart.series)
    return f'<div class="curves over">{drawn}</div>' if drawn else ""


def _train(state: RunState) -> list[tuple[float, float]]:
    return [(float(each.number), each.train_loss) for _, each in sorted(state.epochs.items())]


def _val(state: RunState) -> list[tuple[float, float]]:
    found = sorted(state.epochs.items())
    return [(float(each.number), each.val_loss) for _, each in found if each.val_loss is not None]


def _metrics(sides: Sequence[Side]) -> str:
    names = _names(sides)
    shorts = short_names(names)
    values = [newest(side.state).values for side in sides]
    rows = []
    for name in names:
        found = [each.get(name) for each in values]
        measured = [each for each in found if each is not None]
        apart = [abs(one - other) for one in measured for other in measured if one != other]
        places = decimals([*found, *apart], digits=1)
        best = max(measured, default=None)
        cells = "".join(
            f"<td>{_best(typographic(fixed(each, places)), each is not None and each == best and bool(apart))}</td>"
            for each in found
        )
        rows.append(f'<tr><th scope="row" title="{escape(name)}">{escape(shorts[name])}</th>{cells}</tr>')
    return _wide("Metrics", "Metric", sides, rows) if rows else ""


def _best(text: str, best: bool) -> str:
    return f'<b class="good">{text}</b><span class="unseen"> (best)</span>' if best else text


def _settings(sides: Sequence[Side]) -> str:
    configs = [flat(side.config) for side in sides]
    rows = [
        f'<tr><th scope="row">{foreign(name)}</th>'
        + "".join(f'<td class="text">{foreign(config.get(name, "–"))}</td>' for config in configs)
        + "</tr>"
        for name in differing(configs)
    ]
    if not rows:
        return '<div class="card"><p>All settings are the same.</p></div>'
    return _wide("Settings that differ", "Setting", sides, rows, text=True)


def _wide(caption: str, first: str, sides: Sequence[Side], rows: Sequence[str], *, text: bool = False) -> str:
    style = ' class="text"' if text else ""
    heads = "".join(
        f'<th scope="col"{style}><i class="swatch s{number_}" aria-hidden="true"></i>{foreign(side.name)}</th>'
        for number_, side in enumerate(sides)
    )
    table = (
        f'<table><caption class="unseen">{caption}</caption><thead><tr><th scope="col">{first}</th>{heads}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table>"
    )
    return scrolling(caption, table)
