"""`tunevane datasets …`: check data before it is used, and give it names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tunevane.cli.common import Format, Output, Target, complete_dataset, print_json, print_rows

if TYPE_CHECKING:
    from tunevane.core.inspection import Inspection, Leak

app = typer.Typer(help="Check data before it is used, and give it names.", no_args_is_help=True)

DatasetName = Annotated[str, typer.Argument(help="Name of the data set.", autocompletion=complete_dataset)]
Labelled = Annotated[bool, typer.Option("--labeled", help="Two CSV columns are content and label, not a pair.")]
SHOWN_LEAKS = 10


@app.command()
def push(
    name: DatasetName,
    file: Annotated[Path, typer.Argument(help="A data file.")],
    labeled: Labelled = False,
    output: Format = Output.TEXT,
    target: Target = None,
) -> None:
    """Upload a data file and give it a name that runs can use."""
    from tunevane import session

    session.push_dataset(name, file, is_labeled=labeled, target=target)
    if output is Output.JSON:
        print_json({"name": name})
    else:
        typer.echo(name)


@app.command("list")
def list_(output: Format = Output.TEXT, target: Target = None) -> None:
    """List the data sets that have a name."""
    from tunevane import session

    found = session.list_datasets(target=target)
    if output is Output.JSON:
        print_json([vars(each) for each in found])
    else:
        print_rows(["name", "items"], [[each.name, f"{each.item_count:,}"] for each in found], right={"items"})


@app.command()
def delete(name: DatasetName, output: Format = Output.TEXT, target: Target = None) -> None:
    """Remove a data set's name; its files stay while a run refers to them."""
    from tunevane import session

    session.delete_dataset(name, target=target)
    if output is Output.JSON:
        print_json({"name": name})


@app.command()
def check(
    file: Annotated[Path, typer.Argument(help="A data file.")],
    labeled: Labelled = False,
    against: Annotated[
        Path | None, typer.Option(help="An evaluation set: what of it is in the file too is a leak.")
    ] = None,
    output: Format = Output.TEXT,
) -> None:
    """Show what is understood of a data file: kind, counts, labels, samples, leaks. Needs no service."""
    from tunevane.core import inspection
    from tunevane.storage.readers import read

    data = read(file, is_labeled=labeled)
    found = inspection.inspect(data)
    leaks = [] if against is None else inspection.leaks(data, read(against, is_labeled=True))
    if output is Output.JSON:
        print_json({**vars(found), "leaks": [vars(each) for each in leaks]})
    else:
        _show(found)
        if against is not None:
            _show_leaks(leaks, against)
    if leaks:
        raise typer.Exit(1)


def _show(found: Inspection) -> None:
    rows = [["kind", found.kind], ["items", f"{found.items:,}"]]
    if found.pairs:
        rows.append(["pairs", f"{found.pairs:,}"])
    rows += [["texts", f"{found.texts:,}"], ["images", f"{found.images:,}"]]
    if found.labels:
        word = "groups" if found.kind == "pairs" else "labels"
        rows.append([word, f"{found.labels:,} (largest {found.largest_label:,}, of one item {found.single_labels:,})"])
    if found.unlabelled and found.kind != "scored":
        rows.append(["unlabelled", f"{found.unlabelled:,}"])
    if found.judged:
        rows.append(["judged", f"{found.judged:,}"])
    if found.score_range is not None:
        rows.append(["scores", f"{found.score_range[0]:g} to {found.score_range[1]:g}"])
    rows.append(["duplicates", f"{found.duplicates:,}"])
    if found.longest_text:
        rows.append(["longest text", f"{found.longest_text:,} characters"])
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        typer.echo(f"{name:<{width}}  {value}")
    typer.echo("samples")
    for sample in found.samples:
        typer.echo(f"  {sample[:160]}")


def _show_leaks(leaks: list[Leak], against: Path) -> None:
    if not leaks:
        typer.echo(f"leaks       none of {against} is in it")
        return
    typer.echo(f"leaks       {len(leaks):,} items of {against} are in it, so metrics on it would flatter")
    for leak in leaks[:SHOWN_LEAKS]:
        typer.echo(f"  {leak.content[:120]}  ({leak.evaluation_id} is {leak.train_id})")
