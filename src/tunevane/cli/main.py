"""The command line: `tunevane serve`, `tunevane runs`, and a few more."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from tunevane import __version__
from tunevane.cli import runs, serve
from tunevane.errors import ConfigurationError, InvalidRequestError, TunevaneError

app = typer.Typer(
    name="tunevane",
    help="Fine-tune embedding models for search, steered by retrieval metrics.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
)
app.add_typer(serve.app, name="serve")
app.add_typer(runs.app, name="runs")
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
    except (InvalidRequestError, ConfigurationError) as error:
        sys.stderr.write(f"tunevane: {error}\n")
        raise SystemExit(2) from None
    except TunevaneError as error:
        sys.stderr.write(f"tunevane: {error}\n")
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
