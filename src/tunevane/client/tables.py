"""Tables of a run: metrics before and after, decisions, and the sentence that explains them."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from tunevane.api.type.v1 import metric_pb2
from tunevane.core import explanation
from tunevane.core.history import History
from tunevane.core.numbers import column, interval, span

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
        sure = history.intervals.get(name)
        look = _look(history.before.get(name), history.after[name], sure)
        cells: list[str | Text] = [name, before, after, Text(change, style=look)]
        if history.intervals:
            cells.append(Text("" if sure is None else span(sure.low, sure.high), style="dim"))
        table.add_row(*cells)
    return table


def decisions_table(history: History) -> Table:
    """Shows what was concluded at each epoch end, in words; callbacks that say the same share a line."""
    decisions, named = history.decisions, _naming(history)
    table = Table(title="Decisions", title_justify="left")
    table.add_column("epoch", justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    table.add_column("why", overflow="fold")
    table.add_column("callback", overflow="fold")
    said: dict[tuple[int, str, str], list[str]] = {}
    for each in decisions:
        words = explanation.in_words(each, decisions, named)
        # The callback's own sentence, where it says more than the values do.
        if each.interval is not None and each.reason not in words:
            words += f" ({each.reason})"
        said.setdefault((each.epoch, each.verdict, words), []).append(each.callback.partition("/")[0])
    for (epoch, verdict, words), callbacks in said.items():
        shown = Text(verdict.replace("_", " "), style=_LOOKS.get(verdict, ""))
        table.add_row(str(epoch), shown, words, ", ".join(callbacks))
    return table


def summary(history: History) -> str:
    """Says in one sentence which epoch was kept and why, and why training stopped; empty while there is nothing."""
    sentence = explanation.why(history.decisions, len(history.epochs), history.artifact_epoch, _naming(history))
    return f"{sentence}." if sentence else ""


def _naming(history: History) -> explanation.Naming:
    """Names metrics without what all begin with; that the model is the same in every line need not be said."""
    names = explanation.short_names(sorted(history.before | history.after))
    return lambda name: names.get(name, name)


def _look(before: float | None, after: float, change: metric_pb2.Interval | None) -> str:
    if before is None or before == after:
        return "dim"
    if change is not None:
        low, high = interval(change.low, change.high)
        if low <= 0 <= high:
            return "dim"
    return "green" if after > before else "red"
