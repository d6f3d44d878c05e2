"""From results of searches to the message that answers an evaluation."""

from __future__ import annotations

import io
from typing import Literal

import numpy as np
import numpy.typing as npt

from tunevane.api.evaluator.v1 import evaluator_service_pb2 as wire
from tunevane.api.type.v1 import evaluation_pb2, metric_pb2
from tunevane.core import metrics as scoring
from tunevane_evaluator import plan as plans
from tunevane_evaluator.examples import Examples
from tunevane_evaluator.index.port import Floats, Ids
from tunevane_evaluator.judging import recall
from tunevane_evaluator.searches import Way
from tunevane_evaluator.work import Work


class Scores:
    """The scores of one way to search, collected while blocks of results pass by."""

    def __init__(self, way: Way, plan: evaluation_pb2.EvaluationPlan, judgements: scoring.Judgements) -> None:
        """Args: the way, what to compute, and what is relevant to all queries."""
        self.way = way
        self._plan = plan
        self._judgements = judgements
        self._parts: list[scoring.Evaluation] = []
        self._recalls: list[npt.NDArray[np.float64]] = []

    def add(self, first: int, found: tuple[Ids, Floats], exact: tuple[Ids, Floats]) -> None:
        """Scores a block.

        Args:
            first: Number of the block's first query.
            found: Positions and scores `[b, k]` of this way.
            exact: The same of the plan's own search.

        """
        by_position = self._plan.tie_policy == evaluation_pb2.TIE_POLICY_POSITION
        ties: Literal["expected", "position"] = "position" if by_position else "expected"
        limit, names = plans.limit_of(self._plan), list(self._plan.metrics) or None
        part = self._judgements.rows(first, first + len(found[0]))
        self._parts.append(scoring.evaluate(scoring.Ranking(*found), part, names, limit=limit, ties=ties))
        if found is not exact:
            self._recalls.append(recall(exact, found[0], limit))

    def total(self) -> scoring.Evaluation:
        """Returns the scores of all queries."""
        return scoring.combine(self._parts)

    def outcome(self, exact: scoring.Evaluation) -> evaluation_pb2.SearchOutcome:
        """Says what this way costs, against the plan's own search."""
        values = self.total().values
        return evaluation_pb2.SearchOutcome(
            name=self.way.settings.name,
            metrics=metric_pb2.MetricSet(values=values),
            gaps=metric_pb2.MetricSet(values={name: exact.values[name] - value for name, value in values.items()}),
            recall=float(np.concatenate(self._recalls).mean()),
            seconds=self.way.seconds,
        )


def result(work: Work, queries: int, documents: int, scores: list[Scores], examples: Examples) -> wire.EvaluationResult:
    """Stores values per query and examples, and returns what came out.

    Args:
        work: The evaluation.
        queries: How many there are.
        documents: How many there are.
        scores: Of the plan's own search, then of the other ways.
        examples: Example results.

    """
    scored = scores[0].total()
    if scored.queries_without_relevant:
        work.warnings.append(
            f"{scored.queries_without_relevant} of {queries} queries have no relevant document in the index and score 0"
        )
    if scored.collapsed_fraction > 0.01:
        work.warnings.append(
            f"for {scored.collapsed_fraction:.0%} of the queries all results have the same score;"
            " has the model collapsed?"
        )
    archive = io.BytesIO()
    np.savez(archive, **scored.per_query)  # type: ignore[arg-type]  # numpy's own signature takes arrays by name
    made = wire.EvaluationResult(
        metrics=metric_pb2.MetricSet(values=scored.values),
        computed=True,
        per_query=work.store.put_bytes(archive.getvalue()),
        query_count=queries,
        document_count=documents,
        queries_without_relevant=scored.queries_without_relevant,
        collapsed_fraction=scored.collapsed_fraction,
        warnings=work.warnings,
        seconds=work.seconds,
        search=[each.outcome(scored) for each in scores[1:]],
    )
    if work.plan.example_count:
        made.examples.CopyFrom(work.store.put_bytes(examples.document()))
    return made
