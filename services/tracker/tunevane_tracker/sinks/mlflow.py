"""The sink `mlflow`: a run of MLflow per run, in an SQLite database or at `MLFLOW_TRACKING_URI`.

The step of a value is its event's number, so a value that is sent again is recognised: each key's last step says
what is there. MLflow keeps 64-bit floats; its databases store infinities as the largest finite number. Names lose
the characters that MLflow does not allow: `ndcg@10` becomes `ndcg_at_10`.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException

from tunevane.api.type.v1.event_pb2 import Event
from tunevane_tracker.journal import TrackedRun
from tunevane_tracker.sinks.port import SinkUnavailableError
from tunevane_tracker.sinks.scalars import scalars, seconds

EXPERIMENT = "tunevane"
UID, SEQUENCE = "tunevane.uid", "tunevane.sequence"
MAX_METRICS, MAX_PARAMS = 1000, 100
"""MLflow's limits for one call."""

MAX_NAME_CHARACTERS, MAX_PARAM_CHARACTERS, MAX_TAG_CHARACTERS = 200, 500, 5000
"""Within MLflow's limits, those of older servers included."""

_REFUSED = frozenset({"INVALID_PARAMETER_VALUE", "BAD_REQUEST", "MALFORMED_REQUEST"})
"""Errors that would come again with the same event."""

_NOT_ALLOWED = re.compile(r"[^A-Za-z0-9_\-. :/]")


class MlflowWriter:
    """Writes with MLflow's own client."""

    def __init__(self, folder: Path, environ: Mapping[str, str]) -> None:
        """Uses `MLFLOW_TRACKING_URI`, else a database in `folder`; `MLFLOW_EXPERIMENT_NAME`, else `tunevane`."""
        with _available():
            self._client = MlflowClient(environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{folder / 'mlflow.db'}")
        self._experiment_name = environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
        self._ids: dict[str, str] = {}
        self._last_steps: dict[str, dict[str, int]] = {}

    def open(self, run: TrackedRun) -> int:
        """Finds or makes the run and reads the number of the last event."""
        with _available():
            found = self._find(run) or self._create(run)
        # The public list of metrics has no steps; the message has those of the newest values.
        self._last_steps[run.uid] = {metric.key: metric.step for metric in found.data.to_proto().metrics}
        self._ids[run.uid] = found.info.run_id
        return int(found.data.tags.get(SEQUENCE, "0"))

    def write(self, run: TrackedRun, events: Sequence[Event]) -> None:
        """Logs the events; the tag with the last number comes last."""
        run_id, last_steps = self._ids[run.uid], self._last_steps[run.uid]
        metrics = [
            Metric(key, value, round(seconds(event) * 1000), event.sequence)
            for event in events
            for key, value in _named(scalars(event))
            if event.sequence > last_steps.get(key, 0)
        ]
        with _available():
            for begin in range(0, len(metrics), MAX_METRICS):
                self._client.log_batch(run_id, metrics=metrics[begin : begin + MAX_METRICS])
            for event in events:
                self._note(run_id, event)
            self._client.set_tag(run_id, SEQUENCE, str(events[-1].sequence))
        last_steps.update({metric.key: metric.step for metric in metrics})

    def close(self, run: TrackedRun) -> None:
        """Forgets the run."""
        self._ids.pop(run.uid, None)
        self._last_steps.pop(run.uid, None)

    def _experiment(self) -> str:
        found = self._client.get_experiment_by_name(self._experiment_name)
        return str(found.experiment_id) if found else str(self._client.create_experiment(self._experiment_name))

    def _find(self, run: TrackedRun) -> Run | None:
        runs = self._client.search_runs([self._experiment()], filter_string=f"tags.`{UID}` = '{run.uid}'")
        return self._client.get_run(runs[0].info.run_id) if runs else None

    def _create(self, run: TrackedRun) -> Run:
        made = self._client.create_run(
            self._experiment(), start_time=round(run.created * 1000), run_name=run.name, tags={UID: run.uid}
        )
        params = [
            Param(_clean(name), _text(value)[:MAX_PARAM_CHARACTERS])
            for name, value in run.config.items()
            if name != "callbacks"
        ]
        tags = [RunTag("tunevane.callbacks", _text(run.config.get("callbacks", []))[:MAX_TAG_CHARACTERS])]
        self._client.log_batch(made.info.run_id, params=params[:MAX_PARAMS], tags=tags)
        return self._client.get_run(made.info.run_id)

    def _note(self, run_id: str, event: Event) -> None:
        """Tells what is not a number; telling it twice is the same as once."""
        kind = event.WhichOneof("kind")
        if kind == "run_started" and event.run_started.resumed_after_epoch:
            self._client.update_run(run_id, status="RUNNING")
        elif kind == "decision_made":
            reason = event.decision_made.reason[:MAX_TAG_CHARACTERS]
            self._client.set_tag(run_id, f"decisions/{_clean(event.decision_made.callback)}", reason)
        elif kind == "run_ended":
            ended = event.run_ended
            status = "KILLED" if ended.cancelled else "FAILED" if ended.failure_reason else "FINISHED"
            if ended.failure_reason:
                self._client.set_tag(run_id, "failure_reason", ended.failure_reason[:MAX_TAG_CHARACTERS])
            self._client.set_terminated(run_id, status, round(seconds(event) * 1000))


@contextmanager
def _available() -> Iterator[None]:
    """Tells a server that is away from one that refuses what it is sent."""
    try:
        yield
    except MlflowException as error:
        if error.error_code in _REFUSED:
            raise
        # Not its message: an address in it may hold a password.
        raise SinkUnavailableError(f"MLflow cannot be used ({error.error_code})") from error


def _named(found: Mapping[str, float]) -> list[tuple[str, float]]:
    """Gives values names that MLflow allows; two that would become the same one keep a checksum of theirs."""
    cleaned = {name: _clean(name) for name in found}
    names = list(cleaned.values())
    return [
        (key if names.count(key) == 1 else f"{key}-{zlib.crc32(name.encode()):08x}", found[name])
        for name, key in cleaned.items()
    ]


def _clean(name: str) -> str:
    parts = _NOT_ALLOWED.sub("_", name.replace("@", "_at_")).split("/")
    return "/".join(part if part.strip(".") else "_" for part in parts)[:MAX_NAME_CHARACTERS]


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)
