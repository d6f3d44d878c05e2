"""What a terminal shows of a run: progress bars, tables, examples."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table
from rich.text import Text

from tunevane.api.type.v1 import event_pb2
from tunevane.core.history import History
from tunevane.core.transcript import Transcript

_STYLES = {"WARN ": "yellow", "ERROR": "bold red", "DEBUG": "dim"}


def out() -> Console:
    """Returns the console for results."""
    return Console(file=sys.stdout, highlight=False)


def bars() -> Progress:
    """Returns progress bars, drawn on stderr and only on a terminal."""
    console = Console(file=sys.stderr, highlight=False)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(40),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )


@contextmanager
def transfer(title: str) -> Iterator[Callable[[int, int], None]]:
    """Shows a bar for bytes that move; yields what to call with bytes done and bytes to do."""
    console = Console(file=sys.stderr, highlight=False)
    columns = (TextColumn("{task.description}"), BarColumn(40), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task(title, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def watch(events: Iterable[event_pb2.Event]) -> None:
    """Follows a run: bars for what is under way, and the lines of its log."""
    transcript = Transcript()
    console = out()
    with bars() as progress:
        live = _Live(progress)
        for event in events:
            live.show(event)
            for line in transcript.lines(event):
                live.clear() if line.startswith("Training [") else None
                console.print(Text(line, style=_STYLES.get(line[:5], "")), soft_wrap=True)


class _Live:
    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task: TaskID | None = None
        self._key = ""
        self._epochs = 0
        self._batches = 0

    def clear(self) -> None:
        if self._task is not None:
            self._progress.remove_task(self._task)
        self._task, self._key = None, ""

    def show(self, event: event_pb2.Event) -> None:
        kind = event.WhichOneof("kind")
        if kind == "run_started":
            self._epochs, self._batches = event.run_started.epochs, event.run_started.batches_per_epoch
        elif kind == "step_reported":
            step = event.step_reported
            title = f"Training [{event.epoch}/{self._epochs}]"
            self._update(title, step.batch, self._batches, f"• loss: {step.loss:.3f}")
        elif kind == "evaluation_reported":
            told = event.evaluation_reported
            rate = f"• {told.items_per_second:,.0f}/s" if told.items_per_second else ""
            self._update(f"Evaluating {told.evaluation}: {told.activity}", told.done, told.total, rate)
        elif kind in ("metrics_measured", "run_ended"):
            self.clear()

    def _update(self, title: str, done: int, total: int, note: str) -> None:
        if self._key != title:
            self.clear()
            self._task = self._progress.add_task(title, total=total or None, note=note)
            self._key = title
        assert self._task is not None
        self._progress.update(self._task, completed=done, total=total or None, note=note)


def print_metrics(history: History) -> None:
    """Prints metrics before and after fine-tuning, with the change."""
    if not history.after:
        out().print("This run had no evaluation, so there are no retrieval metrics.")
        return
    table = Table(title="Retrieval metrics before and after fine-tuning", title_justify="left")
    table.add_column("metric")
    for column in ("before", "after", "change"):
        table.add_column(column, justify="right")
    for name in sorted(history.after):
        after, before = history.after[name], history.before.get(name)
        change = Text("")
        if before is not None:
            style = "green" if after > before else "red" if after < before else "dim"
            change = Text(f"{after - before:+.5f}", style=style)
        table.add_row(name, "" if before is None else f"{before:.5f}", f"{after:.5f}", change)
    out().print(table)


def print_decisions(history: History) -> None:
    """Prints what was decided at each epoch end, and which epoch was kept."""
    table = Table(title="Decisions", title_justify="left")
    for column in ("epoch", "callback", "value", "verdict"):
        table.add_column(column, justify="right" if column in ("epoch", "value") else "left", no_wrap=True)
    table.add_column("reason")
    for each in history.decisions:
        value = "" if each.value is None else f"{each.value:.5f}"
        callback = each.callback.partition("/")[0]
        table.add_row(str(each.epoch), callback, value, each.verdict.replace("_", " "), each.reason)
    out().print(table)
    if history.artifact_epoch:
        kept = [
            each
            for each in history.decisions
            if each.epoch == history.artifact_epoch and each.callback == "best-model-checkpoint"
        ]
        why = f", because {kept[0].monitor} was best there: {kept[0].value:.5f}" if kept and kept[0].value else ""
        out().print(f"Kept: epoch {history.artifact_epoch} of {len(history.epochs)}{why}.")


def print_examples(examples: Mapping[str, Mapping[str, Any]], k: int) -> None:
    """Prints the same queries before and after, with their top matches; relevant ones are marked.

    Args:
        examples: `{"before": {evaluation: {"queries": [...]}}, "after": ...}`; Any: a JSON document.
        k: Matches per query.

    """
    console = out()
    if not examples.get("after"):
        console.print("This run gathered no examples; use EvaluationCallback(gather_examples=True).")
        return
    for evaluation, found in examples["after"].items():
        earlier = {each["id"]: each for each in examples["before"].get(evaluation, {}).get("queries", [])}
        for query in found["queries"]:
            table = Table(title=Text(f"“{query['text']}”", style="bold"), title_justify="left")
            table.add_column("", width=2)
            table.add_column("before", width=40)
            table.add_column("after", width=40)
            before = earlier.get(query["id"], {}).get("results", [])
            for rank in range(min(k, max(len(before), len(query["results"])))):
                table.add_row(str(rank + 1), _match(before, rank), _match(query["results"], rank))
            console.print(table)


def _match(results: list[dict[str, Any]], rank: int) -> Text:
    if rank >= len(results):
        return Text("")
    match = results[rank]
    style = "green" if match["relevant"] else ""
    return Text(f"{'✓' if match['relevant'] else ' '} {match['score']:.3f} {match['text']}", style=style)
