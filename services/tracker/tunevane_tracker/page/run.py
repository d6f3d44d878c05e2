"""The page of a run: what state it is in, what it brought, why which epoch was kept."""

from __future__ import annotations

from collections.abc import Mapping

from tunevane_tracker.cursors import Cursor
from tunevane_tracker.journal import TrackedRun
from tunevane_tracker.page.decisions import decision_log
from tunevane_tracker.page.document import Document
from tunevane_tracker.page.gallery import gallery
from tunevane_tracker.page.html import duration, escape, foreign, moment, pill, scrolling, section
from tunevane_tracker.page.plots import small_multiples
from tunevane_tracker.page.settings import settings_table
from tunevane_tracker.page.table import before_after, every_epoch
from tunevane_tracker.page.verdict import news, progress, verdict
from tunevane_tracker.state import RunState

SEVERITIES = {0: "INFO", 1: "DEBUG", 2: "INFO", 3: "WARN", 4: "ERROR"}
SHOWN_WARNINGS = 10
SETTLING_SECONDS = 120.0
"""How long after its end a run's page waits for the mirrors to catch up."""


def run_page(run: TrackedRun, state: RunState, sinks: Mapping[str, Cursor], now: float) -> Document:
    """Shows a run.

    Args:
        run: Which.
        state: What its events say.
        sinks: Where it is mirrored, and how far.
        now: Unix seconds.

    """
    sections = {
        "head": _head(run, state, now) + progress(state, now),
        "news": news(state),
        "warnings": _warnings(state),
        "verdict": verdict(state),
        "metrics": section("Before and after", before_after(state)),
        "curves": section("Curves", small_multiples(state) + every_epoch(state)),
        "decisions": section("Decisions", decision_log(state)),
        "examples": section("Example results", gallery(state)),
        "settings": section("Settings", settings_table(run.config)),
        "mirrors": section("Elsewhere", _mirrors(run, sinks)),
        "log": section("Log", _log(state)),
    }
    behind = any(_behind(run, cursor) for cursor in sinks.values())
    settling = behind and run.ended is not None and now - run.ended < SETTLING_SECONDS
    title = f"{state.status}: {run.name}" if state.status != "succeeded" else run.name
    return Document(title, sections, live=state.status in {"pending", "running"} or settling)


def _head(run: TrackedRun, state: RunState, now: float) -> str:
    facts = [
        (word, foreign(run.config[key]))
        for word, key in (("Model", "model"), ("Loss", "loss"), ("Batch size", "batch_size"))
        if run.config.get(key) not in (None, "", "auto")
    ]
    if state.started_seconds:
        end = state.last_event_seconds if run.ended is not None else now
        facts += [("Started", moment(state.started_seconds)), ("Took", duration(end - state.started_seconds))]
    if state.restarts:
        facts.append(("Resumed", f"{state.restarts} ×"))
    items = "".join(f"<div><dt>{word}</dt><dd>{value}</dd></div>" for word, value in facts)
    description = run.config.get("description")
    about = f'<p class="about">{foreign(description)}</p>' if description else ""
    waits = '<p class="about">Waiting for a worker.</p>' if state.status == "pending" else ""
    list_ = f'<dl class="facts">{items}</dl>' if items else ""
    return f'<div class="title"><h1>{foreign(run.name)}</h1>{pill(state.status)}</div>{about}{waits}{list_}'


def _warnings(state: RunState) -> str:
    failure = ""
    if state.failure_reason:
        failure = f'<section class="note bad" aria-label="Failure"><p>{foreign(state.failure_reason)}</p></section>'
    others = [text for text in state.warnings if text != state.failure_reason]
    if not others:
        return failure
    items = "".join(f"<li>{foreign(text)}</li>" for text in others[-SHOWN_WARNINGS:])
    words = "1 warning" if len(others) == 1 else f"{len(others)} warnings"
    words += f", the newest {SHOWN_WARNINGS}" if len(others) > SHOWN_WARNINGS else ""
    return f'{failure}<section class="note" aria-label="Warnings"><strong>{words}</strong><ul>{items}</ul></section>'


def _mirrors(run: TrackedRun, sinks: Mapping[str, Cursor]) -> str:
    rows = []
    for name, cursor in sorted(sinks.items()):
        behind = _behind(run, cursor)
        # Where nothing can be opened and nothing is wrong, there is nothing to say.
        if not (cursor.url or cursor.problem or behind):
            continue
        reached = f"{behind:,} events behind" if behind else "complete"
        where = "–"
        if cursor.url.startswith(("https://", "http://")):
            where = f'<a href="{escape(cursor.url)}" rel="noreferrer noopener">{escape(cursor.url)}</a>'
        problem = f'<br><span class="soft">{foreign(cursor.problem)}</span>' if cursor.problem else ""
        rows.append(
            f'<tr><th scope="row">{escape(name)}</th><td class="text">{where}{problem}</td><td>{reached}</td></tr>'
        )
    if not rows:
        return ""
    heads = ("Mirror", "Where", "State")
    head = "".join(f'<th scope="col"{" class=text" if name == "Where" else ""}>{name}</th>' for name in heads)
    caption = '<caption class="unseen">Where this run is mirrored</caption>'
    return scrolling("Mirrors", f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>")


def _behind(run: TrackedRun, cursor: Cursor) -> int:
    return max(0, run.acked - max(cursor.delivered, cursor.finished))


def _log(state: RunState) -> str:
    if not state.lines:
        return ""
    lines = "\n".join(f"{SEVERITIES.get(line.severity, 'INFO'):<6}{escape(line.text)}" for line in state.lines)
    count = "1 line" if len(state.lines) == 1 else f"{len(state.lines)} lines"
    open_ = " open" if state.status == "failed" else ""
    return (
        f'<details class="card"{open_}><summary>The newest {count}</summary>'
        f'<pre tabindex="0" aria-label="Log">{lines}</pre></details>'
    )
