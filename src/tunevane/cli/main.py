"""The command line: `tunevane runs`, `tunevane datasets`, `tunevane evaluate`, `tunevane serve`, and a few more."""

from __future__ import annotations

from typing import Annotated

import typer

from tunevane import __version__
from tunevane.cli import components, datasets, doctor, evaluate, runs, serve, tracker
from tunevane.cli.common import complain
from tunevane.errors import TunevaneError

app = typer.Typer(
    name="tunevane",
    help="Fine-tune embedding models for search, steered by retrieval metrics.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
)
app.add_typer(runs.app, name="runs")
app.add_typer(datasets.app, name="datasets")
app.command("models")(components.models)
app.command("losses")(components.losses)
app.command("callbacks")(components.callbacks)
app.command("metrics")(components.metrics)
app.command("evaluate")(evaluate.evaluate)
app.command("doctor")(doctor.doctor)
app.add_typer(serve.app, name="serve")
app.add_typer(tracker.app, name="tracker")
app.command("stop")(serve.stop)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Fine-tune embedding models for search, steered by retrieval metrics."""


def main() -> None:
    """Runs the command line; a problem is one sentence on stderr and an exit code."""
    try:
        app()
    except TunevaneError as error:
        raise SystemExit(complain(error)) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
