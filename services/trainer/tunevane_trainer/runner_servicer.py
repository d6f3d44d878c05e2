"""RunnerService: what workers say while they train."""

from __future__ import annotations

from typing import Any

from tunevane.api.trainer.v1 import run_pb2, runner_service_pb2_grpc
from tunevane.api.trainer.v1 import runner_service_pb2 as wire
from tunevane_trainer import history
from tunevane_trainer.runs import Runs
from tunevane_trainer.supervisor import Supervisor

HISTORY_LIMIT = 1_000_000


class RunnerServicer(runner_service_pb2_grpc.RunnerServiceServicer):
    """Claims and appends."""

    def __init__(self, runs: Runs, supervisor: Supervisor, lease_seconds: float) -> None:
        self._runs = runs
        self._supervisor = supervisor
        self._lease_seconds = lease_seconds

    async def ClaimRun(self, request: wire.ClaimRunRequest, context: Any) -> wire.ClaimRunResponse:  # noqa: N802  # the contract's name
        """Claims a run for a worker and tells where to resume."""

        def claim() -> wire.ClaimRunResponse:
            store = self._runs.store
            store.check_lease(request.run, request.lease_token)
            committed = store.events(request.run, 0, HISTORY_LIMIT, sorted(history.COMMITTED_KINDS))
            response = wire.ClaimRunResponse(
                run=store.get(request.run),
                history=committed,
                lease_seconds=int(self._lease_seconds),
                next_worker_sequence=store.next_worker_sequence(request.run),
            )
            saved = [event for event in committed if event.WhichOneof("kind") == "checkpoint_saved"]
            if saved:
                response.last_checkpoint.CopyFrom(saved[-1])
            return response

        response = await self._runs.call(claim)
        self._supervisor.heard_from(request.run)
        return response

    async def AppendEvents(self, request: wire.AppendEventsRequest, context: Any) -> wire.AppendEventsResponse:  # noqa: N802  # the contract's name
        """Appends events, and tells whether to stop."""
        run, expected = await self._runs.append(
            request.run, request.events, token=request.lease_token, worker_sequence=request.worker_sequence
        )
        self._supervisor.heard_from(request.run)
        return wire.AppendEventsResponse(
            next_worker_sequence=expected, cancel_requested=run.state == run_pb2.RUN_STATE_CANCELLING
        )
