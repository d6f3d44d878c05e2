"""`tunevane runs …`: start runs, look at them, end them, fetch what they made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tunevane.cli.common import Format, Output, RunName, Target, print_json, print_rows

if TYPE_CHECKING:
    from tunevane.callback.base import Callback
    from tunevane.client.run import Run

app = typer.Typer(help="Start runs, look at them, end them, fetch what they made.", no_args_is_help=True)


@app.command()
def create(
    file: Annotated[
        Path | None, typer.Option("--file", "-f", help="A run as YAML; further options win over it.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Registered name, or a sentence-transformers folder.")] = None,
    train_data: Annotated[str | None, typer.Option(help="Training set: a path, or a pushed data set's name.")] = None,
    eval_data: Annotated[str | None, typer.Option(help="Set of the validation loss.")] = None,
    query_data: Annotated[str | None, typer.Option(help="Queries to measure retrieval with.")] = None,
    index_data: Annotated[str | None, typer.Option(help="What they search; the queries themselves by default.")] = None,
    monitor: Annotated[
        str | None, typer.Option(help="Metric that keeps the best epoch and stops early, for example ndcg@10.")
    ] = None,
    patience: Annotated[int, typer.Option(help="Epochs without improvement after which training stops.")] = 2,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training set.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Rows per batch.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak of the learning rate.")] = None,
    loss: Annotated[str | None, typer.Option(help="Registered name.")] = None,
    precision: Annotated[str | None, typer.Option(help="fp32 or bf16.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of every random choice.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the run; made up by default.")] = None,
    labeled: Annotated[bool, typer.Option("--labeled", help="Two CSV columns are content and label.")] = False,
    watch: Annotated[bool, typer.Option("--watch/--detach", help="Follow the run, or return at once.")] = True,
    output: Format = Output.TEXT,
    target: Target = None,
) -> None:
    """Start a fine-tuning, from options, from a YAML file, or both."""
    from tunevane import runfile, session
    from tunevane.client import display

    given: dict[str, object] = {} if file is None else runfile.read(file)
    options = {
        "model": model,
        "train_data": train_data,
        "eval_data": eval_data,
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "loss": loss,
        "precision": precision,
        "device": device,
        "seed": seed,
        "name": name,
        "is_labeled": labeled or None,
        "target": target,
    }
    given |= {key: value for key, value in options.items() if value is not None}
    if "train_data" not in given:
        raise typer.BadParameter("give --train-data, or a --file that names it")
    added = _callbacks(query_data, index_data, monitor, patience)
    if added:
        listed = given.get("callbacks", [])
        assert isinstance(listed, list)
        given["callbacks"] = [*listed, *added]
    with display.transfer("Uploading") as progress:
        run = session.fit(**given, progress=progress)  # type: ignore[arg-type]  # options by name
    if output is Output.JSON:
        print_json({"name": run.name, "status": run.status()})
    elif watch:
        typer.echo(run.name, err=True)
        _follow(run)
    else:
        typer.echo(run.name)


def _callbacks(query_data: str | None, index_data: str | None, monitor: str | None, patience: int) -> list[Callback]:
    from tunevane.callback import BestModelCheckpoint, EarlyStopping, EvaluationCallback

    made: list[Callback] = []
    if query_data is not None:
        made.append(EvaluationCallback(query_data=query_data, index_data=index_data, gather_examples=True))
    elif index_data is not None:
        raise typer.BadParameter("--index-data needs --query-data")
    if monitor is not None:
        made += [BestModelCheckpoint(monitor=monitor), EarlyStopping(monitor=monitor, patience=patience)]
    return made


def _follow(run: Run) -> None:
    try:
        status = run.watch()
    except KeyboardInterrupt:
        typer.echo(
            f"\nThe run goes on. Watch it: tunevane runs watch {run.name}. Stop it: tunevane runs cancel {run.name}.",
            err=True,
        )
        raise typer.Exit(130) from None
    if status != "SUCCEEDED":
        raise typer.Exit(1)


@app.command()
def schema() -> None:
    """Print the JSON schema of run files, for editors."""
    from tunevane import runfile

    print_json(runfile.schema())


@app.command("list")
def list_(limit: int = 50, output: Format = Output.TEXT, target: Target = None) -> None:
    """List runs, newest first."""
    from tunevane import session

    rows = [{"name": run.name, "status": run.status()} for run in session.list_runs(limit, target=target)]
    if output is Output.JSON:
        print_json(rows)
    else:
        print_rows(["name", "status"], [[row["name"], row["status"]] for row in rows])


@app.command()
def get(name: RunName, output: Format = Output.TEXT, target: Target = None) -> None:
    """Show a run: its status and what was asked for."""
    from tunevane import session

    run = session.get_run(name, target=target)
    about = {"name": run.name, "status": run.status(), "failure_reason": run.failure_reason, "config": run.config}
    if output is Output.JSON:
        print_json(about)
        return
    typer.echo(f"{run.name}  {about['status']}")
    if about["failure_reason"]:
        typer.echo(str(about["failure_reason"]))
    for name, value in _asked(run.config):
        typer.echo(f"  {name:<14} {value}")


def _asked(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Lists what was asked for in words; Any: a JSON document."""

    def component(given: Mapping[str, Any]) -> str:
        options = ", ".join(
            f"{key}={value:g}" if isinstance(value, float) else f"{key}={value}"
            for key, value in sorted(given.get("options", {}).items())
        )
        return f"{given['name']}({options})"

    yield "model", component(config["model"])
    for name in ("loss", "optimizer"):
        if name in config:
            yield name, component(config[name])
    for name in ("epochs", "batch_size", "seed", "precision", "device", "description"):
        if name in config:
            yield name.replace("_", " "), str(config[name]).removeprefix("PRECISION_").lower()
    for each in config.get("callbacks", []):
        yield "callback", component(each)


@app.command()
def watch(name: RunName, output: Format = Output.TEXT, target: Target = None) -> None:
    """Follow a run with progress bars until it ends."""
    from tunevane import session

    run = session.get_run(name, target=target)
    if output is Output.TEXT:
        _follow(run)
        return
    status = run.wait()
    print_json({"name": run.name, "status": status})
    if status != "SUCCEEDED":
        raise typer.Exit(1)


@app.command()
def logs(
    name: RunName,
    follow: Annotated[bool, typer.Option("--follow", help="Wait for further lines until the run ends.")] = False,
    output: Format = Output.TEXT,
    target: Target = None,
) -> None:
    """Print a run's log; as JSON a list of its lines."""
    from tunevane import session

    run = session.get_run(name, target=target)
    if output is Output.JSON:
        print_json(list(run.stream_logs()) if follow else run.logs().splitlines())
        return
    if not follow:
        typer.echo(run.logs())
        return
    for line in run.stream_logs():
        typer.echo(line)


@app.command()
def metrics(
    name: RunName,
    live: Annotated[bool, typer.Option("--live", help="The last epoch's, while the run goes on.")] = False,
    output: Format = Output.TEXT,
    target: Target = None,
) -> None:
    """Show retrieval metrics before and after fine-tuning."""
    from tunevane import session
    from tunevane.core import numbers

    run = session.get_run(name, target=target)
    if output is Output.JSON:
        print_json(run.metrics(live=live))
    elif live:
        measured = run.metrics(live=True)
        before, after = measured["before"], measured["after"]
        written = numbers.column([(before.get(key), value) for key, value in after.items()])
        rows = [[key, *both[:2]] for key, both in zip(after, written, strict=True)]
        print_rows(["metric", "before", "now"], rows, right={"before", "now"})
    else:
        run.display_metrics()


@app.command()
def examples(name: RunName, k: int = 5, output: Format = Output.TEXT, target: Target = None) -> None:
    """Show the same queries before and after fine-tuning."""
    from tunevane import session

    run = session.get_run(name, target=target)
    if output is Output.JSON:
        print_json(run.example_results())
    else:
        run.display_examples(k)


@app.command()
def decisions(name: RunName, output: Format = Output.TEXT, target: Target = None) -> None:
    """Show what was decided at each epoch end, and why."""
    from tunevane import session

    run = session.get_run(name, target=target)
    if output is Output.JSON:
        print_json([vars(decision) for decision in run.decisions()])
    else:
        run.display_decisions()


@app.command()
def compare(
    names: Annotated[list[str], typer.Argument(help="Names of the runs.")],
    metric: Annotated[list[str] | None, typer.Option(help="Only this metric; may be repeated.")] = None,
    output: Format = Output.TEXT,
    target: Target = None,
) -> None:
    """Show the metrics of several runs side by side: after fine-tuning, or the last epoch of those that go on."""
    from tunevane import session
    from tunevane.core import numbers

    runs = [session.get_run(name, target=target) for name in dict.fromkeys(names)]
    measured = {run.name: run.metrics(live=True) for run in runs}
    if output is Output.JSON:
        print_json({run.name: {"status": run.status(), **measured[run.name]} for run in runs})
        return
    found = dict.fromkeys(key for each in measured.values() for key in each["after"])
    wanted = [key for key in found if not metric or any(key == each or key.endswith(f"_{each}") for each in metric)]
    if not wanted:
        have = ", ".join(found) or "nothing yet"
        raise typer.BadParameter(f"none of these runs measured that; they measured: {have}")
    values = [[measured[run.name]["after"].get(key) for run in runs] for key in wanted]
    places = numbers.decimals(value for row in values for value in row)
    rows = [[key, *(numbers.fixed(value, places) for value in row)] for key, row in zip(wanted, values, strict=True)]
    print_rows(["metric", *measured], rows, right=set(measured))


@app.command()
def cancel(name: RunName, output: Format = Output.TEXT, target: Target = None) -> None:
    """Ask a run to stop after the batch in hand."""
    from tunevane import session

    run = session.get_run(name, target=target)
    run.cancel()
    if output is Output.JSON:
        print_json({"name": run.name, "status": run.status()})


@app.command()
def delete(name: RunName, output: Format = Output.TEXT, target: Target = None) -> None:
    """Delete a run that has ended, with its history."""
    from tunevane import session

    session.delete_run(name, target=target)
    if output is Output.JSON:
        print_json({"name": name})


@app.command()
def pull(
    name: RunName,
    directory: Annotated[Path, typer.Option(help="Where the folder of the run goes.")] = Path("artifacts"),
    output: Format = Output.TEXT,
    target: Target = None,
) -> None:
    """Download the fine-tuned model into a folder."""
    from tunevane import session
    from tunevane.client import display

    with display.transfer("Downloading") as progress:
        folder = session.get_run(name, target=target).save_artifact(directory, progress)
    if output is Output.JSON:
        print_json({"name": name, "folder": str(folder)})
    else:
        typer.echo(str(folder))
