"""An evaluation's request, checked and named by its content."""

from __future__ import annotations

from collections.abc import Iterator

from blake3 import blake3

from tunevane.api.evaluator.v1 import evaluator_service_pb2
from tunevane.api.type.v1 import evaluation_pb2
from tunevane.client.evaluator import refs as refs  # the files that callers send are those that are read
from tunevane.core import bundles
from tunevane.core.metrics.registry import resolve
from tunevane.core.search_settings import parse_all
from tunevane.errors import InvalidRequestError, Problem
from tunevane.nn import models

VERSION = 1
"""Part of every key; a change of what a result means raises it."""

DEFAULT_LIMIT = 20
MAX_LIMIT = 1000
MAX_BLENDS = 101
_LARGEST = {"example_count": 1000, "query_sample_size": 2**31 - 1, "batch_size": 4096}


def limit_of(plan: evaluation_pb2.EvaluationPlan) -> int:
    """Returns the results fetched per query."""
    return plan.limit or DEFAULT_LIMIT


def check(request: evaluator_service_pb2.EvaluateRequest) -> None:
    """Refuses a request that cannot work.

    Raises:
        InvalidRequestError: Lists every problem.

    """
    found = list(_problems(request))
    try:
        models.check(request.model, "model")
    except InvalidRequestError as error:
        found.extend(error.problems)
    if found:
        raise InvalidRequestError(found)


def _problems(request: evaluator_service_pb2.EvaluateRequest) -> Iterator[Problem]:
    plan = request.plan
    named = {"plan.query_data": plan.query_data}
    if request.checkpoint.files:
        named["checkpoint"] = request.checkpoint
    if plan.HasField("index_data"):
        named["plan.index_data"] = plan.index_data
    if request.HasField("blends"):
        named["blends.pretrained"] = request.blends.pretrained
        yield from _blend_problems(request)
    for field, bundle in named.items():
        try:
            bundles.check(bundle)
        except InvalidRequestError as error:
            yield Problem(field, str(error))
    if not 1 <= limit_of(plan) <= MAX_LIMIT:
        yield Problem("plan.limit", f"must be in [1, {MAX_LIMIT}], not {plan.limit}")
    for field, most in _LARGEST.items():
        if not 0 <= getattr(plan, field) <= most:
            yield Problem(f"plan.{field}", f"must be in [0, {most}], not {getattr(plan, field)}")
    for field in ("model", "index_model"):
        chosen = getattr(plan, field)
        # Whether this model has towers is known once it is built.
        if chosen and chosen not in models.TOWERS:
            yield Problem(f"plan.{field}", f"must be one of {', '.join(models.TOWERS)}, not '{chosen}'")
    enums = {
        "distance": evaluation_pb2.Distance,
        "tie_policy": evaluation_pb2.TiePolicy,
        "precision": evaluation_pb2.Precision,
    }
    for field, enum in enums.items():
        if getattr(plan, field) not in enum.values():
            yield Problem(f"plan.{field}", f"has the unknown value {getattr(plan, field)}")
    try:
        parse_all(plan.search)
    except InvalidRequestError as error:
        yield Problem("plan.search", str(error))
    for metric in plan.metrics:
        try:
            deepest = max(asked.cutoff for asked in resolve([metric], DEFAULT_LIMIT))
        except InvalidRequestError as error:
            yield Problem("plan.metrics", str(error))
        else:
            if deepest > MAX_LIMIT:
                yield Problem("plan.metrics", f"'{metric}' looks at {deepest} results; at most {MAX_LIMIT} are fetched")


def _blend_problems(request: evaluator_service_pb2.EvaluateRequest) -> Iterator[Problem]:
    alphas = request.blends.alphas
    if not 1 <= len(alphas) <= MAX_BLENDS:
        yield Problem("blends.alphas", f"must be 1 to {MAX_BLENDS} numbers, not {len(alphas)}")
    for alpha in alphas:
        if not 0 <= alpha <= 1:
            yield Problem("blends.alphas", f"must be in [0, 1], not {alpha}")
    if not request.checkpoint.files:
        yield Problem("checkpoint", "is required where mixes are asked for")


def key(request: evaluator_service_pb2.EvaluateRequest) -> str:
    """Names an evaluation by everything that its result depends on."""
    content = evaluator_service_pb2.EvaluateRequest(
        model=request.model, checkpoint=request.checkpoint, plan=request.plan
    )
    if request.HasField("blends"):
        content.blends.CopyFrom(request.blends)
    return blake3(b"%d\0" % VERSION + content.SerializeToString(deterministic=True)).hexdigest()
