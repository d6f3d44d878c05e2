"""Tables of a run: metrics before and after, decisions, and the sentence that explains them."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from tunevane.api.type.v1 import metric_pb2
from tunevane.core import explanation
from tunevane.core.history import DecisionRecord, History
from tunevane.core.numbers import column, decimals, fixed

_LOOKS = {"improved": "green", "not_improved": "dim", "stop": "yellow"}


def metrics_table(history: History) -> Table:
    """Shows each metric before and after fine-tuning, the change, and its interval where that is known."""
    table = Table(title="Retrieval metrics before and after fine-tuning", title_justify="left")
    table.add_column("metric", overflow="fold")
    for heading in ("before", "after", "change"):
        table.add_column(heading, justify="right", no_wrap=True)
    if history.intervals:
        level = next(iter(history.intervals.values())).confidence
        table.add_column(f"{level:.0%} interval", justify="right", no_wrap=True)
    names = sorted(history.after)
    texts = column([(history.before.get(name), history.after[name]) for name in names])
    for name, (before, after, change) in zip(names, texts, strict=True):
        interval = history.intervals.get(name)
        look = _look(history.before.get(name), history.after[name], interval)
        cells: list[str | Text] = [name, before, after, Text(change, style=look)]
        if history.intervals:
            cells.append(Text(_interval(interval), style="dim"))
        table.add_row(*cells)
    return table


def decisions_table(decisions: Sequence[DecisionRecord]) -> Table:
    """Shows what was concluded at each epoch end, in words."""
    table = Table(title="Decisions", title_justify="left")
    table.add_column("epoch", justify="right", no_wrap=True)
    table.add_column("callback", overflow="fold")
    table.add_column("verdict", no_wrap=True)
    table.add_column("why", overflow="fold")
    for each in decisions:
        verdict = Text(each.verdict.replace("_", " "), style=_LOOKS.get(each.verdict, ""))
        words = explanation.in_words(each, decisions)
        # The callback's own sentence, where it says more than the values do.
        if each.interval is not None and each.reason not in words:
            words += f" ({each.reason})"
        table.add_row(str(each.epoch), each.callback, verdict, words)
    return table


def summary(history: History) -> str:
    """Says in one sentence which epoch was kept and why, and why training stopped; empty while there is nothing."""
    sentence = explanation.why(history.decisions, len(history.epochs), history.artifact_epoch)
    return f"{sentence}." if sentence else ""


def _look(before: float | None, after: float, interval: metric_pb2.Interval | None) -> str:
    if before is None or before == after or (interval is not None and interval.low <= 0 <= interval.high):
        return "dim"
    return "green" if after > before else "red"


def _interval(interval: metric_pb2.Interval | None) -> str:
    if interval is None:
        return ""
    places = decimals((interval.low, interval.high))
    return f"{fixed(interval.low, places, sign=True)} … {fixed(interval.high, places, sign=True)}"
