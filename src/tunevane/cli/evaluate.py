"""`tunevane evaluate`: a model against a data set, once, without a run."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from tunevane.cli.common import Format, Output, print_json, print_rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tunevane.client.evaluator import OnProgress


def evaluate(
    model: Annotated[str, typer.Argument(help="Registered name, or a sentence-transformers folder.")],
    query_data: Annotated[str, typer.Option(help="The queries: a data file.")],
    index_data: Annotated[str | None, typer.Option(help="What they search; the queries themselves by default.")] = None,
    metric: Annotated[
        list[str] | None, typer.Option(help="For example ndcg@10; may be repeated. The reference set by default.")
    ] = None,
    limit: Annotated[int, typer.Option(help="Results fetched per query.")] = 20,
    distance: Annotated[str, typer.Option(help="cosine, euclidean or sqeuclidean.")] = "cosine",
    precision: Annotated[str, typer.Option(help="fp32 or bf16.")] = "fp32",
    keep_self: Annotated[bool, typer.Option("--keep-self", help="Count a query's own document.")] = False,
    examples: Annotated[int, typer.Option(help="Queries to show results of.")] = 0,
    sample: Annotated[int | None, typer.Option(help="Queries to measure with; all by default.")] = None,
    seed: Annotated[int, typer.Option(help="Of the sample and the examples.")] = 0,
    output: Format = Output.TEXT,
    target: Annotated[
        str | None,
        typer.Option(
            "--evaluator",
            envvar="TUNEVANE_EVALUATOR_TARGET",
            help="Address of an evaluator; by default this machine's.",
        ),
    ] = None,
) -> None:
    """Measure how well a model retrieves, once, without a run."""
    import tunevane.evaluation as evaluations
    from tunevane.core import numbers

    with _progress() as on_progress:
        found = evaluations.evaluate(
            model,
            query_data=query_data,
            index_data=index_data,
            metrics=metric or None,
            limit=limit,
            distance=distance,  # type: ignore[arg-type]  # checked there, as are all options
            exclude_self=not keep_self,
            precision=precision,  # type: ignore[arg-type]
            num_example_queries=examples,
            query_sample_size=sample,
            seed=seed,
            target=target,
            on_progress=on_progress,
        )
    if output is Output.JSON:
        print_json(
            {
                "metrics": dict(found.metrics),
                "queries": found.query_count,
                "documents": found.document_count,
                "warnings": list(found.warnings),
                "examples": found.examples,
                "seconds": dict(found.seconds),
            }
        )
        return
    places = numbers.decimals(found.metrics.values())
    rows = [[name, numbers.fixed(value, places)] for name, value in found.metrics.items()]
    print_rows(["metric", "value"], rows, right={"value"})
    typer.echo(f"{found.query_count:,} queries, {found.document_count:,} documents", err=True)
    for warning in found.warnings:
        typer.echo(f"warning: {warning}", err=True)
    for query in found.examples:
        typer.echo(f"\n“{query.get('text') or query['id']}”")
        results = query["results"]
        assert isinstance(results, list)
        for rank, match in enumerate(results[:5], start=1):
            mark = "✓" if match["relevant"] else " "
            typer.echo(f"  {rank} {mark} {match['score']:.3f} {match.get('text') or match['id']}")


@contextmanager
def _progress() -> Iterator[OnProgress]:
    """Shows a bar for the step that is under way."""
    from tunevane.api.evaluator.v1 import evaluator_service_pb2 as wire
    from tunevane.client import display

    with display.bars() as bars:
        task = bars.add_task("Evaluating", total=None, note="")

        def show(progress: wire.EvaluationProgress) -> None:
            word = wire.EvaluationStep.Name(progress.step).removeprefix("EVALUATION_STEP_").lower()
            rate = f"• {progress.items_per_second:,.0f}/s" if progress.items_per_second else ""
            title, total = f"Evaluating: {word}", progress.total or None
            bars.update(task, description=title, completed=progress.done, total=total, note=rate)

        yield show
