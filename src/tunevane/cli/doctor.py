"""`tunevane doctor`: is everything well here, and if not, what would help."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from tunevane.cli.common import Format, Output, Target, print_json

_MARKS = {"ok": "✓", "note": "·", "wrong": "✗"}


def doctor(
    target: Target = None,
    evaluator: Annotated[
        str | None, typer.Option(envvar="TUNEVANE_EVALUATOR_TARGET", help="Address of an evaluator.")
    ] = None,
    tracker: Annotated[str | None, typer.Option(help="Address of a tracker.")] = None,
    output: Format = Output.TEXT,
) -> None:
    """Check this machine, its packages and the services; exits with 1 where something is wrong."""
    from rich.text import Text

    from tunevane import doctor as examination
    from tunevane.client import display

    found = []
    styles = {"ok": "green", "note": "dim", "wrong": "red"}
    console = display.out()
    for finding in examination.examine(target, evaluator, tracker):
        found.append(finding)
        if output is Output.TEXT:
            line = f"{_MARKS[finding.standing]} {finding.what:<22} {finding.sentence}"
            style = styles[finding.standing] if sys.stdout.isatty() else ""
            console.print(Text(line, style=style), soft_wrap=True)
    if output is Output.JSON:
        print_json([vars(each) for each in found])
    if any(each.standing == "wrong" for each in found):
        raise typer.Exit(1)
