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
from rich.text import Text

from tunevane.api.type.v1 import event_pb2
from tunevane.client.gallery import Examples
from tunevane.client.tables import decisions_table, metrics_table, summary
from tunevane.core.history import History
from tunevane.core.transcript import Transcript, number
from tunevane.core.worse import worse

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
        self._val_loss = ""

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
            note = f"• loss: {number(step.loss)}{self._val_loss} • {step.items_per_second:,.0f} examples/s"
            self._update(title, step.batch, self._batches, note)
        elif kind == "epoch_ended" and event.epoch_ended.HasField("val_loss"):
            self._val_loss = f" • val_loss: {number(event.epoch_ended.val_loss)}"
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


def print_metrics(history: History, console: Console | None = None) -> None:
    """Prints metrics before and after fine-tuning, the change, and how sure it is."""
    console = console or out()
    if not history.after:
        console.print("This run had no evaluation, so there are no retrieval metrics.")
        return
    console.print(metrics_table(history))
    sentence = worse(history.before, history.after)
    if sentence:
        console.print(f"{sentence}.", style="red", soft_wrap=True)


def print_decisions(history: History, console: Console | None = None) -> None:
    """Prints what was decided at each epoch end, and which epoch was kept and why."""
    console = console or out()
    if not history.decisions:
        console.print("No callback of this run decides anything.")
    else:
        console.print(decisions_table(history))
    sentence = summary(history)
    if sentence:
        console.print(sentence, soft_wrap=True)


def print_examples(examples: Mapping[str, Mapping[str, Any]], k: int, console: Console | None = None) -> None:
    """Shows the same queries before and after, with their top matches; relevant ones are marked.

    In a notebook it is HTML with pictures, in a terminal tables with pictures where that can show them.

    Args:
        examples: `{"before": {evaluation: {"queries": [...]}}, "after": ...}`; Any: a JSON document.
        k: Matches per query.
        console: Where to; None is stdout.

    """
    console = console or out()
    shown = Examples(examples, k)
    if console.is_jupyter:
        from IPython.display import display

        display(shown)  # type: ignore[no-untyped-call]  # IPython's own
    else:
        shown.print(console)
