"""MLflow holds what the journal holds, once, wherever its process dies."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from support.sink_runs import CONFIG, bits, hard_run
from support.tracker_service import NAME, UID, eventually, kill, sink_processes, tracker
from tunevane_tracker import service
from tunevane_tracker.config import TrackerConfig
from tunevane_tracker.delivery import Delivery
from tunevane_tracker.journal import TrackedRun
from tunevane_tracker.sinks.scalars import scalars

mlflow = pytest.importorskip("mlflow")
pytest.importorskip("sqlalchemy")

RUN = hard_run()
ENDLESS = 1.7976931348623157e308
"""What MLflow's databases make of an infinity."""

# SQLAlchemy 2.1 warns of what MLflow 3 does with it.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated")


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr(service, "Delivery", partial(Delivery, first_wait_seconds=0.1))


def expected(*, finite: bool) -> dict[str, list[tuple[int, bytes]]]:
    """Lists number and bits of every value by key; `finite` as a database keeps infinities and zeros."""
    found: dict[str, list[tuple[int, bytes]]] = {}
    for event in RUN:
        for name, value in scalars(event).items():
            kept = math.copysign(ENDLESS, value) if finite and math.isinf(value) else value
            # SQLite knows one zero.
            kept = 0.0 if finite and kept == 0.0 else kept
            found.setdefault(name.replace("@", "_at_"), []).append((event.sequence, bits(kept)))
    return found


def history(uri: str) -> tuple[dict[str, list[tuple[int, bytes]]], Any]:
    """Reads the only run with MLflow's own client: number and bits of its values by key, and MLflow's run."""
    client = mlflow.MlflowClient(uri)
    experiment = client.get_experiment_by_name("tunevane")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    return {
        key: sorted((point.step, bits(point.value)) for point in client.get_metric_history(run.info.run_id, key))
        for key in run.data.metrics
    }, run


def test_a_database_holds_the_run_once_although_its_process_is_killed(tmp_path: Path) -> None:
    config = TrackerConfig(port=0, http_port=0, state_dir=tmp_path / "state", wandb="off", sinks=("mlflow",))
    with tracker(config) as served:
        for begin in range(0, len(RUN), 9):
            served.publish(RUN[begin : begin + 9], CONFIG if begin == 0 else None)
            if begin == 18:
                eventually(lambda: served.delivered("mlflow") > 0, 60.0)
                for process in sink_processes("tunevane_tracker.sinks.hosting"):
                    kill(process)
        eventually(lambda: served.delivered("mlflow") == len(RUN), 60.0)
    found, run = history(f"sqlite:///{tmp_path}/state/sinks/mlflow/mlflow.db")
    assert found == expected(finite=True)
    assert (run.info.run_name, run.info.status) == (NAME, "FINISHED")
    assert run.data.params == {"model": "minilm", "loss": "cosent", "batch_size": "64"}
    assert run.data.tags["tunevane.sequence"] == str(len(RUN))
    assert run.data.tags["decisions/best-model-checkpoint"] == "Model improved to 0.52!"


class DeadError(BaseException):
    """Stands for the death of the process."""


def test_a_death_at_any_call_doubles_nothing_in_a_store_that_only_appends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.store.tracking import file_store
    from mlflow.utils import file_utils

    from tunevane_tracker.sinks.mlflow import MlflowWriter

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    run = TrackedRun(1, UID, NAME, CONFIG, 1_700_000_000.0, len(RUN), None, 0)
    uri = f"file://{tmp_path}/store"
    left = [0]

    def dying(call: Callable[..., Any]) -> Callable[..., Any]:
        def work(*arguments: Any, **named: Any) -> Any:
            left[0] -= 1
            if left[0] == 0:
                raise DeadError
            return call(*arguments, **named)

        return work

    # Before each value that is appended to a file, and before each tag.
    monkeypatch.setattr(file_store, "append_to", dying(file_utils.append_to))
    monkeypatch.setattr(mlflow.MlflowClient, "set_tag", dying(mlflow.MlflowClient.set_tag))
    deaths = 0
    for calls in itertools.cycle(range(1, 12)):
        left[0] = calls
        writer = MlflowWriter(tmp_path, {"MLFLOW_TRACKING_URI": uri})
        try:
            position = writer.open(run)
            events = [event for event in RUN if event.sequence > position]
            for begin in range(0, len(events), 4):
                writer.write(run, events[begin : begin + 4])
        except DeadError:
            deaths += 1
            continue
        break
    assert deaths > 10
    found, shown = history(uri)
    assert found == expected(finite=False)
    assert shown.info.status == "FINISHED"


def test_names_that_mlflow_does_not_allow_stay_apart(tmp_path: Path) -> None:
    from tunevane_tracker.sinks.mlflow import _named

    found = dict(_named({"metrics/a@1": 1.0, "metrics/a_at_1": 2.0, "metrics/ü": 3.0, "x/../y": 4.0}))
    assert sorted(found.values()) == [1.0, 2.0, 3.0, 4.0]
    assert found["metrics/_"] == 3.0
    assert found["x/_/y"] == 4.0


def test_a_server_that_is_away_is_tried_again_and_its_address_is_not_shown(tmp_path: Path) -> None:
    from tunevane_tracker.sinks.mlflow import MlflowWriter
    from tunevane_tracker.sinks.port import SinkUnavailableError

    run = TrackedRun(1, UID, NAME, CONFIG, 1_700_000_000.0, 1, None, 0)
    writer = MlflowWriter(tmp_path, {"MLFLOW_TRACKING_URI": "http://user:s3cr3t@127.0.0.1:9"})
    with pytest.raises(SinkUnavailableError) as caught:
        writer.open(run)
    assert "s3cr3t" not in str(caught.value)
