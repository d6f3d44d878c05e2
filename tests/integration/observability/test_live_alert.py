"""A loss that is not finite makes its way from a worker's event to an alert of a real Prometheus, which ends again."""

from __future__ import annotations

import math
from pathlib import Path

from dashboards.__main__ import FOLDER
from support.prometheus import Prometheus, prometheus
from support.tracker_events import numbered
from support.tracker_service import tracker
from support.waits import eventually
from tunevane.api.type.v1.event_pb2 import Event, RunStarted, StepReported
from tunevane_tracker.config import TrackerConfig

LOSSES = {"not-a-number": math.nan, "infinite": math.inf, "below": -math.inf, "healthy": 1.0}


def firing(server: Prometheus) -> set[str]:
    """Lists the runs that the alert fires for."""
    return {dict(labels)["run_id"] for labels in server.now('ALERTS{alertname="LossNotFinite",alertstate="firing"}')}


def test_the_alert_fires_for_each_run_and_clears(tmp_path: Path) -> None:
    settings = TrackerConfig(port=0, http_port=0, state_dir=tmp_path / "state", wandb="off")
    rules = FOLDER.parent / "rules" / "tunevane.yaml"
    with tracker(settings) as served:
        target = f"127.0.0.1:{served.http_port}"
        with prometheus(tmp_path / "prometheus", [target], [rules]) as server:
            for uid, loss in LOSSES.items():
                started = Event(run_started=RunStarted(epochs=1, batches_per_epoch=10))
                bad = Event(epoch=1, step=1, step_reported=StepReported(batch=1, loss=loss))
                served.publish(numbered([started, bad]), uid=uid)
            eventually(lambda: firing(server) == set(LOSSES) - {"healthy"})
            for uid in LOSSES:
                good = Event(epoch=1, step=2, step_reported=StepReported(batch=2, loss=0.5))
                served.publish(numbered([good], first=3), uid=uid)
            eventually(lambda: not firing(server))
            assert set(server.now("tunevane_run_train_loss").values()) == {0.5}
