"""`tunevane tracker …`: get at what the tracker has kept."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tunevane.cli.common import complete_run
from tunevane.errors import ConfigurationError, InvalidRequestError, Problem

if TYPE_CHECKING:
    from tunevane_tracker.export.source import Source

app = typer.Typer(help="Get at what the tracker has kept.", no_args_is_help=True)

STDOUT = Path("-")


@app.callback()
def _group() -> None:
    """Get at what the tracker has kept."""


@app.command()
def export(
    run: Annotated[str, typer.Argument(help="Name or unique id of the run.", autocompletion=complete_run)],
    format_: Annotated[
        str,
        typer.Option(
            "--format", "-f", help="jsonl (nothing is lost), parquet, openmetrics (for Prometheus), or tensorboard."
        ),
    ] = "jsonl",
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="File, or folder for tensorboard; - writes to stdout. Named like the run by default."
        ),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(envvar="TUNEVANE_TRACKER", help="Address of a tracker; this machine's by default."),
    ] = None,
    state_dir: Annotated[
        Path | None, typer.Option(help="Read from this folder of a tracker that does not run, instead of asking one.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite what is there.")] = False,
) -> None:
    """Write everything that the tracker has of a run into a file that other tools read."""
    from tunevane_tracker.export.export import check, export

    chosen = check(format_)
    if target is not None and state_dir is not None:
        raise InvalidRequestError([Problem("state_dir", "cannot be given together with a target; choose one")])
    if output == STDOUT and format_ == "tensorboard":
        raise InvalidRequestError([Problem("output", "must be a folder for tensorboard, which writes several files")])
    if output is not None and output != STDOUT and not output.absolute().parent.is_dir():
        raise ConfigurationError(f"--output: there is no folder {output.absolute().parent}")
    with _source(run, target, state_dir) as source:
        if output == STDOUT:
            with tempfile.TemporaryDirectory() as folder:
                made = Path(folder) / "made"
                export(source, chosen, made)
                sys.stdout.buffer.write(made.read_bytes())
                sys.stdout.buffer.flush()
            return
        path = Path(f"{source.run.name}{chosen.ending}") if output is None else output
        export(source, chosen, path.absolute(), replace=force)
    typer.echo(str(path))


@contextmanager
def _source(run: str, target: str | None, state_dir: Path | None) -> Iterator[Source]:
    """Opens the run where it was said to be, else at this machine's tracker, whether it runs or not."""
    from tunevane.local import stack
    from tunevane_tracker.export.source import offline, remote

    if state_dir is None and target is None:
        running = stack.running(stack.home())
        if running is None:
            state_dir = stack.home() / "tracker"
        else:
            target = running.tracker
    with offline(state_dir, run) if state_dir is not None else remote(str(target), run) as source:
        yield source
