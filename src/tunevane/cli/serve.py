"""`tunevane serve trainer|evaluator|tracker|local`: one command a service."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Annotated

import typer

from tunevane import config, log

app = typer.Typer(help="Run the services.", no_args_is_help=True)

File = Annotated[Path | None, typer.Option("--config", help="Settings file (TOML), a table per service.")]
Port = Annotated[int | None, typer.Option(help="Port to listen on; 0 lets the system choose.")]
Host = Annotated[str | None, typer.Option(help="Address to listen on.")]
State = Annotated[Path | None, typer.Option(help="Folder of what the service keeps.")]
MetricsPort = Annotated[
    int | None,
    typer.Option(help="Port of /metrics and /healthz over HTTP; 0 lets the system choose. None is served by default."),
]

DEFAULT_FILE = Path("tunevane.toml")


def _file(given: Path | None) -> Path | None:
    return given if given is not None else DEFAULT_FILE if DEFAULT_FILE.is_file() else None


def _end_with_parent() -> None:
    """Ends this process when the one that started it dies, where it asked for that."""
    if os.environ.pop("TUNEVANE_ENDS_WITH_STDIN", None) is None:
        return

    def watch() -> None:
        while os.read(0, 4096):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="parent", daemon=True).start()


@app.command()
def trainer(
    file: File = None, host: Host = None, port: Port = None, state_dir: State = None, metrics_port: MetricsPort = None
) -> None:
    """Run the trainer: runs, their histories, and the workers that train them."""
    from tunevane_trainer.config import TrainerConfig
    from tunevane_trainer.service import run

    log.setup("trainer")
    overrides = {"host": host, "port": port, "state_dir": state_dir, "metrics_port": metrics_port}
    settings = config.load(TrainerConfig, "trainer", environ=os.environ, file=_file(file), overrides=overrides)
    _end_with_parent()
    asyncio.run(run(settings))


@app.command()
def evaluator(
    file: File = None, host: Host = None, port: Port = None, state_dir: State = None, metrics_port: MetricsPort = None
) -> None:
    """Run the evaluator: measures how well checkpoints retrieve."""
    from tunevane_evaluator.config import EvaluatorConfig
    from tunevane_evaluator.service import run

    log.setup("evaluator")
    overrides = {"host": host, "port": port, "state_dir": state_dir, "metrics_port": metrics_port}
    settings = config.load(EvaluatorConfig, "evaluator", environ=os.environ, file=_file(file), overrides=overrides)
    _end_with_parent()
    asyncio.run(run(settings))


@app.command()
def tracker(
    file: File = None,
    host: Host = None,
    port: Port = None,
    state_dir: State = None,
    http_port: Annotated[int | None, typer.Option(help="Port of pages and /metrics; 0 lets the system choose.")] = None,
    sink: Annotated[
        list[str] | None, typer.Option(help="Mirror runs there too: jsonl, mlflow, tensorboard; may be repeated.")
    ] = None,
) -> None:
    """Run the tracker: mirrors runs to Prometheus and Weights & Biases, and shows their pages."""
    from tunevane_tracker.config import TrackerConfig
    from tunevane_tracker.service import run

    log.setup("tracker")
    overrides = {"host": host, "port": port, "state_dir": state_dir, "http_port": http_port, "sinks": sink or None}
    settings = config.load(TrackerConfig, "tracker", environ=os.environ, file=_file(file), overrides=overrides)
    _end_with_parent()
    asyncio.run(run(settings))


@app.command()
def local(
    home: Annotated[
        Path | None, typer.Option(help="Folder of everything; TUNEVANE_HOME, or the user's data folder.")
    ] = None,
    idle_seconds: Annotated[float | None, typer.Option(help="End when unused for so long; never by default.")] = None,
) -> None:
    """Run all three on this machine's loopback, restarted when they die."""
    from tunevane.local import stack, supervisor

    log.setup("local")

    def show(started: stack.Stack) -> None:
        sys.stdout.write(
            f"trainer    {started.trainer}\nevaluator  {started.evaluator}\ntracker    {started.tracker}\n"
            f"runs       {started.pages}/runs\nmetrics    {started.pages}/metrics\n"
        )
        sys.stdout.flush()

    asyncio.run(supervisor.run(stack.home() if home is None else home.resolve(), idle_seconds, show))


def stop(home: Annotated[Path | None, typer.Option(help="Folder of the services.")] = None) -> None:
    """End the local services; active runs go on when the services are started again."""
    from tunevane.local import stack

    ended = stack.stop(home)
    typer.echo("stopped" if ended else "the local services are not running")
