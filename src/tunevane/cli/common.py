"""What the commands share: the options that many have, and how results are written."""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from typing import Annotated

import typer

from tunevane.errors import ConfigurationError, InvalidRequestError, TunevaneError


class Output(StrEnum):
    """How results are written."""

    TEXT = "text"
    JSON = "json"


def complete_run(incomplete: str) -> list[str]:
    """Lists the runs whose names begin like what was typed, for tab completion; none where no service answers."""
    from tunevane import session

    try:
        return [run.name for run in session.list_runs(200) if run.name.startswith(incomplete)]
    except TunevaneError:
        return []


def complete_dataset(incomplete: str) -> list[str]:
    """Lists the data sets whose names begin like what was typed, for tab completion."""
    from tunevane import session

    try:
        return [each.name for each in session.list_datasets() if each.name.startswith(incomplete)]
    except TunevaneError:
        return []


RunName = Annotated[str, typer.Argument(help="Name of the run.", autocompletion=complete_run)]
Target = Annotated[
    str | None, typer.Option(envvar="TUNEVANE_TARGET", help="Address of a trainer service; this machine's by default.")
]
Format = Annotated[Output, typer.Option("--output", "-o", help="How results are written.")]


def print_json(content: object) -> None:
    """Writes a result for programs."""
    typer.echo(json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False))


def print_rows(columns: list[str], rows: list[list[str]], *, right: set[str] | None = None) -> None:
    """Writes a result for people: a table, as plain columns where the output is no terminal."""
    from rich.table import Table

    from tunevane.client import display

    if not rows:
        return
    if sys.stdout.isatty():
        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in columns:
            table.add_column(column, justify="right" if column in (right or ()) else "left")
        for row in rows:
            table.add_row(*row)
        display.out().print(table)
        return
    widths = [max(len(row[n]) for row in [columns, *rows]) for n in range(len(columns))]
    for row in [columns, *rows]:
        cells = [
            cell.rjust(width) if column in (right or ()) else cell.ljust(width)
            for column, cell, width in zip(columns, row, widths, strict=True)
        ]
        typer.echo("  ".join(cells).rstrip())


def complain(error: TunevaneError) -> int:
    """Writes a problem to stderr, a line each, and returns the exit code: 2 for what was asked wrongly, else 1."""
    if isinstance(error, (InvalidRequestError, ConfigurationError)):
        for problem in error.problems:
            sys.stderr.write(f"tunevane: {problem}\n")
        return 2
    sys.stderr.write(f"tunevane: {error}\n")
    return 1
