"""`tunevane models|losses|callbacks|metrics`: what runs can name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tunevane.cli.common import Format, Output, Target, print_json, print_rows

if TYPE_CHECKING:
    from tunevane.session import ComponentInfo


def _show(found: list[ComponentInfo], output: Output) -> None:
    if output is Output.JSON:
        print_json([vars(each) for each in found])
    else:
        print_rows(["name", "what it is"], [[each.name, each.summary] for each in found])


def models(output: Format = Output.TEXT, target: Target = None) -> None:
    """List the models that runs can name."""
    from tunevane import session

    _show(session.list_models(target=target), output)


def losses(output: Format = Output.TEXT, target: Target = None) -> None:
    """List the losses that runs can name."""
    from tunevane import session

    _show(session.list_losses(target=target), output)


def callbacks(output: Format = Output.TEXT, target: Target = None) -> None:
    """List the callbacks that runs can name."""
    from tunevane import session

    _show(session.list_callbacks(target=target), output)


def metrics(output: Format = Output.TEXT, target: Target = None) -> None:
    """List the metrics that evaluations can name, with their formulas."""
    from tunevane import session

    _show(session.list_metrics(target=target), output)
