"""The page of a run: what state it is in, what it brought, why which epoch was kept."""

from __future__ import annotations

import json
from collections.abc import Mapping

from tunevane_tracker.cursors import Cursor
from tunevane_tracker.journal import TrackedRun
from tunevane_tracker.page.html import document, duration, escape, moment, number, pill, signed
from tunevane_tracker.page.listing import deciding_metric
from tunevane_tracker.page.plots import plots
from tunevane_tracker.page.table import before_after
from tunevane_tracker.state import Decision, RunState

SEVERITIES = {0: "INFO", 1: "DEBUG", 2: "INFO", 3: "WARNING", 4: "ERROR"}
MARKS = {
    "improved": '<span class="mark good" aria-hidden="true">▲</span>',
    "not improved": '<span class="mark soft" aria-hidden="true">–</span>',
    "stop": '<span class="mark bad" aria-hidden="true">■</span>',
}


def run_page(run: TrackedRun, state: RunState, sinks: Mapping[str, Cursor], now: float) -> str:
    """Shows a run.

    Args:
        run: Which.
        state: What its events say.
        sinks: Where it is mirrored, and how far.
        now: Unix seconds.

    """
    body = "".join(
        (
            _head(run, state, now),
            _warnings(state),
            _progress(state),
            _hero(state),
            before_after(state),
            plots(state),
            _decisions(state),
            _mirrors(run, state, sinks),
            _log(state),
            _configuration(run),
        )
    )
    return document(run.name, body, refresh_seconds=5 if state.status in {"pending", "running"} else None)


def _head(run: TrackedRun, state: RunState, now: float) -> str:
    facts = [
        (word, escape(run.config[key]))
        for word, key in (("Model", "model"), ("Loss", "loss"), ("Batch size", "batch_size"))
        if key in run.config
    ]
    if state.started_seconds:
        end = state.last_event_seconds if run.ended is not None else now
        facts += [("Started", moment(state.started_seconds)), ("Took", duration(end - state.started_seconds))]
    if state.restarts:
        facts.append(("Resumed", f"{state.restarts} ×"))
    items = "".join(f"<li>{word} <b>{value}</b></li>" for word, value in facts)
    return f'<div class="title"><h1>{escape(run.name)}</h1>{pill(state.status)}</div><ul class="facts">{items}</ul>'


def _warnings(state: RunState) -> str:
    failure = f'<div class="note bad"><p>{escape(state.failure_reason)}</p></div>' if state.failure_reason else ""
    if not state.warnings:
        return failure
    items = "".join(f"<li>{escape(text)}</li>" for text in state.warnings[-10:])
    count = len(state.warnings)
    words = "1 warning" if count == 1 else f"{count} warnings" + (", the newest 10" if count > 10 else "")
    return f'{failure}<section class="note" aria-label="Warnings"><strong>{words}</strong><ul>{items}</ul></section>'


def _progress(state: RunState) -> str:
    if state.status != "running" or not state.epochs_planned:
        return ""
    finished = len(state.epochs)
    within = 0.0
    if state.epoch > finished and state.batches_per_epoch:
        within = min(1.0, state.batch / state.batches_per_epoch)
    percent = 100.0 * min(1.0, (finished + within) / state.epochs_planned)
    speed = f"{state.items_per_second:,.0f} items/s" if state.items_per_second else ""
    left = f"Epoch {state.epoch} of {state.epochs_planned}, batch {state.batch} of {state.batches_per_epoch}"
    right = escape(state.activity) if state.activity else speed
    return (
        f'<div class="progress"><p><span>{left}</span><span>{right}</span></p><div class="track" role="progressbar" '
        f'aria-label="Training" aria-valuemin="0" aria-valuemax="100" aria-valuenow="{percent:.0f}">'
        f'<span style="width:{percent:.1f}%"></span></div></div>'
    )


def _hero(state: RunState) -> str:
    cards = []
    monitor = deciding_metric(state)
    phases = state.phases()
    best = phases["after"] or phases["best"] or phases["current"]
    if monitor and monitor in best:
        before, now = phases["before"].get(monitor), best[monitor]
        change = ""
        if before is not None:
            change = f'<em class="{"good" if now > before else "bad" if now < before else "soft"}">'
            change += f"{signed(now - before)}</em>"
        earlier = "" if before is None else f"<small>{number(before)} → </small>"
        cards.append((escape(monitor), f"{earlier}{number(now)}{change}", ""))
    if state.best_epoch:
        word = "Kept epoch" if state.artifact_epoch else "Best epoch"
        of = f"<small> of {state.epochs_planned}</small>" if state.epochs_planned else ""
        cards.append((word, f"{state.best_epoch}{of}", escape(_reason(state))))
    if state.train_loss is not None:
        val_loss = state.val_loss
        detail = "" if val_loss is None else f"validation {number(val_loss)}"
        cards.append(("Training loss", number(state.train_loss), detail))
    if state.patience_left is not None and state.status == "running":
        cards.append(("Patience left", str(state.patience_left), "epochs without improvement until training stops"))
    items = "".join(
        f'<div class="card"><p>{head}</p><strong>{value}</strong><p class="why">{why}</p></div>'
        for head, value, why in cards
    )
    return f'<div class="hero">{items}</div>' if items else ""


def _reason(state: RunState) -> str:
    """Says why the best epoch is the best."""
    for decision in reversed(state.decisions):
        if decision.epoch == state.best_epoch and decision.verdict == "improved":
            return decision.reason
    return "no callback chose another epoch, so the last one counts"


def _decisions(state: RunState) -> str:
    if not state.decisions:
        return ""
    kept = ""
    if state.artifact_epoch:
        kept = f'<p class="kept-line">Kept epoch {state.artifact_epoch} because {escape(_because(state))}</p>'
    by_epoch: dict[int, list[Decision]] = {}
    for decision in state.decisions:
        by_epoch.setdefault(decision.epoch, []).append(decision)
    items = "".join(
        f'<li><span class="when">Epoch {epoch}</span><ul>{"".join(_decision(each) for each in made)}</ul></li>'
        for epoch, made in sorted(by_epoch.items())
    )
    return f'<h2>Decisions</h2><section class="card">{kept}<ol class="decisions">{items}</ol></section>'


def _because(state: RunState) -> str:
    for decision in reversed(state.decisions):
        if decision.epoch == state.artifact_epoch and decision.verdict == "improved":
            value = "" if decision.value is None else f": {decision.monitor} {number(decision.value)}"
            return f"{decision.callback} saw an improvement{value}"
    return "no callback chose another epoch"


def _decision(decision: Decision) -> str:
    mark = MARKS.get(decision.verdict, "")
    return f"<li>{mark}{escape(decision.reason or decision.verdict)}<code>{escape(decision.callback)}</code></li>"


def _mirrors(run: TrackedRun, state: RunState, sinks: Mapping[str, Cursor]) -> str:
    rows = []
    for name, cursor in sorted(sinks.items()):
        behind = run.acked - max(cursor.delivered, cursor.finished)
        reached = "complete" if behind <= 0 else f"{behind:,} events behind"
        where = f'<a href="{escape(cursor.url)}" rel="noreferrer">{escape(cursor.url)}</a>' if _web(cursor.url) else ""
        rows.append(
            f'<tr><th scope="row">{escape(name)}</th><td class="text">{where}</td>'
            f'<td class="text">{escape(cursor.problem)}</td><td>{reached}</td></tr>'
        )
    if not rows:
        return ""
    head = '<thead><tr><th scope="col">Mirror</th><th></th><th></th><th scope="col">State</th></tr></thead>'
    return f'<h2>Mirrors</h2><div class="card scroll"><table>{head}<tbody>{"".join(rows)}</tbody></table></div>'


def _web(url: str) -> bool:
    return url.startswith(("https://", "http://"))


def _log(state: RunState) -> str:
    if not state.lines:
        return ""
    lines = "\n".join(f"{SEVERITIES.get(line.severity, 'INFO'):<8}{escape(line.text)}" for line in state.lines)
    return (
        f'<h2>Log</h2><section class="card"><details open><summary>The newest {len(state.lines)} lines</summary>'
        f"<pre>{lines}</pre></details></section>"
    )


def _configuration(run: TrackedRun) -> str:
    if not run.config:
        return ""
    text = json.dumps(run.config, indent=2, sort_keys=True, ensure_ascii=False)
    return (
        f'<h2>What was asked for</h2><section class="card"><details><summary>Configuration</summary>'
        f"<pre>{escape(text)}</pre></details></section>"
    )
