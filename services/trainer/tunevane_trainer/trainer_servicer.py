"""TrainerService: creates, finds, watches, cancels and deletes runs."""

from __future__ import annotations

import json
import random
import uuid
from collections.abc import AsyncIterator
from typing import Any

from tunevane import plugins
from tunevane.api.trainer.v1 import run_pb2, trainer_service_pb2_grpc
from tunevane.api.trainer.v1 import trainer_service_pb2 as wire
from tunevane.core import names, specs
from tunevane.core.metrics import list_metrics
from tunevane.errors import InvalidRequestError
from tunevane.nn import models
from tunevane_trainer import validation
from tunevane_trainer.runs import Runs, log_line, now, spec_refs_missing
from tunevane_trainer.training.optimizers import OPTIMIZERS

PREFIX = "runs/"
DEFAULT_PAGE = 50
MAX_PAGE = 1000


def page_size(asked: int) -> int:
    """Returns the size of a page: 50 when not stated, never more than 1,000.

    Raises:
        InvalidRequestError: It is negative.

    """
    if asked < 0:
        raise InvalidRequestError(f"page_size must be at least 0, not {asked}")
    return min(asked or DEFAULT_PAGE, MAX_PAGE)


class TrainerServicer(trainer_service_pb2_grpc.TrainerServiceServicer):
    """Creates and watches runs."""

    def __init__(self, runs: Runs) -> None:
        self._runs = runs

    async def CreateRun(self, request: wire.CreateRunRequest, context: Any) -> wire.CreateRunResponse:  # noqa: N802  # the contract's name
        """Creates a run."""
        run_id = request.run_id or names.suggest(random.Random(request.request_id or None))
        names.check(run_id, "run_id")
        validation.check(request.spec, self._runs.blobs)
        run = run_pb2.Run(
            name=PREFIX + run_id,
            uid=str(uuid.uuid4()),
            spec=request.spec,
            state=run_pb2.RUN_STATE_PENDING,
            create_time=now(),
        )
        run.spec.epochs = run.spec.epochs or validation.DEFAULT_EPOCHS
        if request.validate_only:
            return wire.CreateRunResponse(run=run)

        def create() -> run_pb2.Run:
            spec_refs_missing(self._runs.blobs, run.spec)
            return self._runs.store.create(run, request.request_id)

        made = await self._runs.call(create)
        self._runs.changed.set()
        return wire.CreateRunResponse(run=made)

    async def GetRun(self, request: wire.GetRunRequest, context: Any) -> wire.GetRunResponse:  # noqa: N802  # the contract's name
        """Gets a run."""
        return wire.GetRunResponse(run=await self._runs.call(lambda: self._runs.store.get(request.name)))

    async def ListRuns(self, request: wire.ListRunsRequest, context: Any) -> wire.ListRunsResponse:  # noqa: N802  # the contract's name
        """Lists runs, newest first."""
        size = page_size(request.page_size)
        if request.page_token and not request.page_token.isdigit():
            raise InvalidRequestError("page_token must come from the previous page")
        before = int(request.page_token) if request.page_token else None
        found, following = await self._runs.call(lambda: self._runs.store.page(size, before, request.states))
        return wire.ListRunsResponse(runs=found, next_page_token="" if following is None else str(following))

    async def CancelRun(self, request: wire.CancelRunRequest, context: Any) -> wire.CancelRunResponse:  # noqa: N802  # the contract's name
        """Asks a run to stop."""
        run = await self._runs.call(lambda: self._runs.store.request_cancel(request.name))
        if run.state == run_pb2.RUN_STATE_CANCELLING:
            run, _ = await self._runs.append(request.name, [log_line("Cancelling on request")])
        self._runs.changed.set()
        return wire.CancelRunResponse(run=run)

    async def DeleteRun(self, request: wire.DeleteRunRequest, context: Any) -> wire.DeleteRunResponse:  # noqa: N802  # the contract's name
        """Deletes a run that has ended."""
        await self._runs.call(lambda: self._runs.store.delete(request.name))
        self._runs.ring(request.name)
        return wire.DeleteRunResponse()

    async def WatchRun(self, request: wire.WatchRunRequest, context: Any) -> AsyncIterator[wire.WatchRunResponse]:  # noqa: N802  # the contract's name
        """Sends a run's events, then new ones as they happen."""
        async for events in self._runs.watch(request.name, request.after_sequence, follow=not request.no_follow):
            yield wire.WatchRunResponse(events=events)

    async def ListComponents(self, request: wire.ListComponentsRequest, context: Any) -> wire.ListComponentsResponse:  # noqa: N802  # the contract's name
        """Lists what runs can name."""
        found = [info for info in components() if request.kind in (wire.COMPONENT_KIND_UNSPECIFIED, info.kind)]
        return wire.ListComponentsResponse(components=sorted(found, key=lambda info: (info.kind, info.name)))


def components() -> list[wire.ComponentInfo]:
    """Describes everything that is registered."""

    def info(kind: wire.ComponentKind.ValueType, name: str, summary: str, options: type | None) -> wire.ComponentInfo:
        schema = json.dumps(specs.schema(options), default=str) if options is not None else "{}"
        return wire.ComponentInfo(kind=kind, name=name, summary=summary, options_schema=schema)

    def first_line(described: object) -> str:
        return (getattr(described, "__doc__", None) or "").strip().splitlines()[0]

    # Any: what an entry point loads has no type before it is looked at.
    losses: dict[str, Any] = plugins.load_all("losses")
    found = []
    for name in plugins.names("models"):
        model = models.find(name)
        found.append(info(wire.COMPONENT_KIND_MODEL, name, model.summary, model.options))
        found[-1].task, found[-1].dimensions = model.task, model.dim or 0
    found += [info(wire.COMPONENT_KIND_LOSS, name, loss.summary, loss.options) for name, loss in losses.items()]
    found += [info(wire.COMPONENT_KIND_OPTIMIZER, name, first_line(cls), cls) for name, cls in OPTIMIZERS.items()]
    for name, callback in plugins.load_all("callbacks").items():
        assert isinstance(callback, type)
        found.append(info(wire.COMPONENT_KIND_CALLBACK, name, first_line(callback), callback))
    found += [info(wire.COMPONENT_KIND_METRIC, each.name, each.summary, None) for each in list_metrics()]
    return found
