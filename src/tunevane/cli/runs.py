"""`tunevane runs …`: look at runs, end them, fetch what they made."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Look at runs, end them, fetch what they made.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="Name of the run.")]
Target = Annotated[
    str | None, typer.Option(envvar="TUNEVANE_TARGET", help="Address of a trainer service; this machine's by default.")
]


class Output(StrEnum):
    """How results are written."""

    TEXT = "text"
    JSON = "json"


Format = Annotated[Output, typer.Option("--output", help="How results are written.")]


def _print_json(content: object) -> None:
    typer.echo(json.dumps(content, indent=2, ensure_ascii=False))


@app.command("list")
def list_(limit: int = 50, output: Format = Output.TEXT, target: Target = None) -> None:
    """List runs, newest first."""
    from tunevane import session

    rows = [{"name": run.name, "status": run.status()} for run in session.list_runs(limit, target=target)]
    if output is Output.JSON:
        _print_json(rows)
        return
    for row in rows:
        typer.echo(f"{row['name']:<32} {row['status']}")


@app.command()
def get(name: Name, output: Format = Output.TEXT, target: Target = None) -> None:
    """Show a run: its status and what was asked for."""
    from tunevane import session

    run = session.get_run(name, target=target)
    about = {"name": run.name, "status": run.status(), "failure_reason": run.failure_reason, "config": run.config}
    if output is Output.JSON:
        _print_json(about)
        return
    typer.echo(f"{run.name}  {about['status']}")
    if about["failure_reason"]:
        typer.echo(str(about["failure_reason"]))


@app.command()
def watch(name: Name, target: Target = None) -> None:
    """Follow a run with progress bars until it ends."""
    from tunevane import session

    run = session.get_run(name, target=target)
    try:
        status = run.watch()
    except KeyboardInterrupt:
        typer.echo(
            f"\nThe run goes on. Watch it: tunevane runs watch {name}. Stop it: tunevane runs cancel {name}.", err=True
        )
        raise typer.Exit(130) from None
    if status != "SUCCEEDED":
        raise typer.Exit(1)


@app.command()
def logs(name: Name, target: Target = None) -> None:
    """Print a run's log so far."""
    from tunevane import session

    typer.echo(session.get_run(name, target=target).logs())


@app.command()
def metrics(name: Name, output: Format = Output.TEXT, target: Target = None) -> None:
    """Show retrieval metrics before and after fine-tuning."""
    from tunevane import session

    run = session.get_run(name, target=target)
    if output is Output.JSON:
        _print_json(run.metrics())
    else:
        run.display_metrics()


@app.command()
def examples(name: Name, k: int = 5, output: Format = Output.TEXT, target: Target = None) -> None:
    """Show the same queries before and after fine-tuning."""
    from tunevane import session

    run = session.get_run(name, target=target)
    if output is Output.JSON:
        _print_json(run.example_results())
    else:
        run.display_examples(k)


@app.command()
def decisions(name: Name, output: Format = Output.TEXT, target: Target = None) -> None:
    """Show what was decided at each epoch end, and why."""
    from tunevane import session

    run = session.get_run(name, target=target)
    if output is Output.JSON:
        _print_json([vars(decision) for decision in run.decisions()])
    else:
        run.display_decisions()


@app.command()
def cancel(name: Name, target: Target = None) -> None:
    """Ask a run to stop after the batch in hand."""
    from tunevane import session

    session.get_run(name, target=target).cancel()


@app.command()
def delete(name: Name, target: Target = None) -> None:
    """Delete a run that has ended, with its history."""
    from tunevane import session

    session.delete_run(name, target=target)


@app.command()
def pull(name: Name, directory: Path = Path("artifacts"), target: Target = None) -> None:
    """Download the fine-tuned model into a folder."""
    from tunevane import session
    from tunevane.client import display

    with display.transfer("Downloading") as progress:
        folder = session.get_run(name, target=target).save_artifact(directory, progress)
    typer.echo(str(folder))
