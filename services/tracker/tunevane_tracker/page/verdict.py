"""The top of a run's page: whether retrieval improved, and why which epoch was kept."""

from __future__ import annotations

from tunevane.core import explanation
from tunevane.core.numbers import span
from tunevane_tracker.page.html import change, duration, escape, foreign, number, percent, typographic
from tunevane_tracker.page.outcome import Outcome, metric_names, outcome
from tunevane_tracker.page.plots import deciding_chart
from tunevane_tracker.state import RunState

UNTIL = {"running": " so far", "failed": " before it failed", "cancelled": " before it was cancelled"}
"""What is added to the headline of a run without an artifact."""


def verdict(state: RunState) -> str:
    """Answers what a reader wants to know first; nothing before anything was measured."""
    found = outcome(state)
    if found is not None:
        return _improvement(state, found)
    names = metric_names(state)
    loss = "" if state.train_loss is None else f"training loss {number(state.train_loss)}"
    if state.val_loss is not None:
        loss += f", validation loss {number(state.val_loss)}"
    if names and names[0] in state.before:
        return _card("soft", "Before fine-tuning", names[0], _now(number(state.before[names[0]])), _line("sure", loss))
    if state.train_loss is None:
        return ""
    hint = _line("why", "Retrieval was not measured; with an EvaluationCallback it is, and decides.")
    val = "" if state.val_loss is None else _line("by soft", f"validation loss {number(state.val_loss)}")
    return _card("soft", "Training loss", "", _now(number(state.train_loss)), val + hint + _why(state))


def _improvement(state: RunState, found: Outcome) -> str:
    before, now, difference = change(found.before, found.now)
    score = by = ""
    if found.before is not None:
        relative = percent(found.before, found.now)
        by = _line(f"by {found.look}", difference + (f" ({relative})" if relative else ""))
        score = f'<span class="then">{before}</span> <span class="arrow" aria-hidden="true">→</span>'
        score += '<span class="unseen"> to </span>'
    so_far = "" if state.after else UNTIL.get(state.status, "")
    more = by + _sure(found) + _why(state)
    return _card(found.look, found.headline + so_far, found.metric, f"{score}{_now(now)}", more, deciding_chart(state))


def _card(look: str, headline: str, metric: str, score: str, more: str, chart: str = "") -> str:
    return (
        f'<section class="card verdict" aria-labelledby="answer"><div class="answer">'
        f'<h2 id="answer" class="{look}">{headline}</h2>{_line("metric", foreign(metric) if metric else "")}'
        f'<p class="score">{score}</p>{more}</div>{chart}</section>'
    )


def _now(text: str) -> str:
    return f'<span class="now">{text}</span>'


def _line(css_class: str, content: str) -> str:
    return f'<p class="{css_class}">{content}</p>' if content else ""


def news(state: RunState) -> str:
    """Says in one line what is told to those who listen to the page; it changes once an epoch."""
    ended = len(state.epochs)
    if state.status in {"succeeded", "failed", "cancelled"}:
        return f"Run {state.status}."
    if not ended:
        return ""
    found = outcome(state)
    score = "" if found is None else f", {escape(found.metric)} {number(found.now)}"
    return f"{ended} of {state.epochs_planned} epochs done{score}."


def progress(state: RunState, now: float) -> str:
    """Shows how far a running run is."""
    if state.status != "running" or not state.epochs_planned:
        return ""
    finished = len(state.epochs)
    within = 0.0
    if state.epoch > finished and state.batches_per_epoch:
        within = min(1.0, state.batch / state.batches_per_epoch)
    share = min(1.0, (finished + within) / state.epochs_planned)
    left = f"Epoch {max(state.epoch, 1)} of {state.epochs_planned}"
    if state.batches_per_epoch:
        left += f" · batch {state.batch:,} of {state.batches_per_epoch:,}"
    right = [foreign(state.activity)] if state.activity else []
    if not right and state.items_per_second:
        right.append(f"{state.items_per_second:,.0f} items/s")
    elapsed = now - state.started_seconds
    if 0.05 < share < 1.0 and state.restarts == 0 and elapsed > 0:
        # Early stopping can only make it shorter.
        right.append(f"at most {duration(elapsed / share - elapsed)} left")
    return (
        f'<div class="progress"><p><span>{left}</span><span>{" · ".join(right)}</span></p>'
        f'<progress aria-label="Training" max="100" value="{100 * share:.1f}">{100 * share:.0f} %</progress></div>'
    )


def _sure(found: Outcome) -> str:
    if found.interval is None:
        return ""
    ends = typographic(span(found.interval.low, found.interval.high))
    return f'<p class="sure">{found.interval.confidence:.0%} interval of the change: {ends}</p>'


def _why(state: RunState) -> str:
    names = explanation.short_names(metric_names(state))
    sentence = explanation.why(
        state.decisions, len(state.epochs), state.artifact_epoch, lambda name: names.get(name, name)
    )
    return f'<p class="why">{foreign(typographic(sentence) + ".")}</p>' if sentence else ""
