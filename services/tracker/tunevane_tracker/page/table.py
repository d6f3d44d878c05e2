"""The tables of metrics: before and after fine-tuning, and of every epoch."""

from __future__ import annotations

from tunevane.api.type.v1.metric_pb2 import Interval
from tunevane.core.explanation import short_names
from tunevane.core.numbers import column, decimals, fixed, interval, span
from tunevane_tracker.page.html import escape, look, number, percent, scrolling, typographic
from tunevane_tracker.page.outcome import metric_names, newest
from tunevane_tracker.state import RunState


def before_after(state: RunState) -> str:
    """Shows each metric before and after, the change, and its interval; nothing before the first metrics."""
    names = metric_names(state)
    if not names:
        return ""
    latest = newest(state)
    values, intervals = latest.values, latest.intervals
    shorts = short_names(names)
    sure = bool(intervals)
    rows = []
    texts = column([(state.before.get(name), values.get(name)) for name in names])
    for name, row in zip(names, texts, strict=True):
        before, now, difference = (typographic(each) for each in row)
        style = look(state.before.get(name), values.get(name))
        if _unsure(intervals.get(name)):
            style = "soft"
        cells = [
            f"<td>{before}</td><td><b>{now}</b></td><td class='{style}'>{difference}</td>",
            f"<td class='{style}'>{percent(state.before.get(name), values.get(name))}</td>",
            f"<td class='soft'>{_interval(intervals.get(name))}</td>" if sure else "",
        ]
        rows.append(f'<tr><th scope="row" title="{escape(name)}">{escape(shorts[name])}</th>{"".join(cells)}</tr>')
    last = "After" if state.after else f"Epoch {latest.epoch}" if latest.epoch else "Now"
    level = next((each.confidence for each in intervals.values()), 0.95)
    heads = ["Metric", "Before", last, "Change", "Relative", *([f"{level:.0%} interval of the change"] if sure else [])]
    head = "".join(f'<th scope="col">{each}</th>' for each in heads)
    caption = "Retrieval before and after fine-tuning" if state.after else "Retrieval before fine-tuning and now"
    table = (
        f'<table><caption class="unseen">{caption}</caption><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table>"
    )
    note = ""
    if sure:
        note = (
            '<p class="soft note-line">The intervals come from a paired bootstrap over the queries. '
            "Where one contains 0, the change may be chance.</p>"
        )
    return scrolling(caption, table) + note


def every_epoch(state: RunState) -> str:
    """Shows all values of all epochs, folded away."""
    names = metric_names(state)
    epochs = sorted(set(state.by_epoch) | set(state.epochs))
    if not epochs:
        return ""
    shorts = short_names(names)
    places = {
        name: decimals([values.get(name) for values in (state.before, *state.by_epoch.values())]) for name in names
    }
    rows = [("before", None, None, state.before)] if state.before else []
    for each in epochs:
        epoch = state.epochs.get(each)
        losses = (None, None) if epoch is None else (epoch.train_loss, epoch.val_loss)
        rows.append((str(each), *losses, state.by_epoch.get(each, {})))
    body = "".join(
        f'<tr><th scope="row">{label}</th><td>{number(train)}</td><td>{number(val)}</td>'
        + "".join(f"<td>{typographic(fixed(values.get(name), places[name]))}</td>" for name in names)
        + "</tr>"
        for label, train, val, values in rows
    )
    heads = ["Epoch", "train_loss", "val_loss", *(shorts[name] for name in names)]
    head = "".join(f'<th scope="col">{escape(each)}</th>' for each in heads)
    table = (
        f'<table><caption class="unseen">Losses and metrics of every epoch</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    )
    return f"<details><summary>Values of every epoch</summary>{scrolling('Values of every epoch', table)}</details>"


def _interval(change: Interval | None) -> str:
    return "–" if change is None else typographic(span(change.low, change.high))


def _unsure(change: Interval | None) -> bool:
    """Tells whether a change may be none at all."""
    if change is None:
        return False
    low, high = interval(change.low, change.high)
    return low <= 0 <= high
