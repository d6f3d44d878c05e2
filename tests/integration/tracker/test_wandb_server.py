"""Against a stand-in server, Weights & Biases has every row once and in order, whatever dies in between."""

from __future__ import annotations

import logging
import os
import sqlite3
import stat
from pathlib import Path

import pytest

from support.tracker_events import whole_run
from support.tracker_service import eventually, kill_wandb, tracker
from support.wandb_server import ANONYMOUS_KEY, Fault, WandbServer, wandb_server
from tunevane_tracker.config import TrackerConfig
from tunevane_tracker.sinks.wandb.rows import Rows

pytest.importorskip("wandb")

RUN = whole_run(3)
CONFIG = {"model": "minilm", "callbacks": [{"name": "wandb-logger", "options": {"metrics_logger_step": "batch"}}]}
STEPS = [
    command.sequence
    for rows in [Rows({"metrics_logger_step": "batch"})]
    for event in RUN
    for command in rows.commands(event)
    if command.op == "row"
]


@pytest.fixture(autouse=True)
def _no_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))


def settings(folder: Path, server: WandbServer) -> TrackerConfig:
    return TrackerConfig(
        port=0,
        http_port=0,
        state_dir=folder,
        wandb_base_url=server.url,
        wandb_transmit_seconds=1.0,
        wandb_finish_seconds=10,
    )


def steps(server: WandbServer) -> list[int]:
    with server.lock:
        return [row["_step"] for rows in server.history.values() for row in rows]


def test_an_anonymous_run_is_mirrored_and_its_key_stays_secret(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    folder = tmp_path / "state"
    with wandb_server() as server, tracker(settings(folder, server)) as served:
        notices = list(served.publish(RUN, CONFIG).notices)
        eventually(lambda: served.delivered("wandb") == len(RUN))
        shown = [served.get(path)[1] for path in ("/metrics", "/runs", "/runs/some-run")]
        notices += served.publish([]).notices
        assert server.operations[-1] == "RunResumeStatus", "after the end the server is asked whether it has all rows"
    assert steps(server) == STEPS
    (line,) = (line for line in notices if line.startswith("View run at "))
    if server.url in line:
        assert line.endswith(f"?apiKey={ANONYMOUS_KEY}"), "the claim link belongs to the run's own log"
    assert not any(ANONYMOUS_KEY in text for text in [*shown, caplog.text])
    assert 'tunevane_tracker_wandb_mode{mode="anonymous"} 1.0' in shown[0]
    assert stat.S_IMODE((folder / "wandb" / "anonymous.json").stat().st_mode) == 0o600
    logs = [path.read_text(errors="replace") for path in (folder / "wandb").rglob("*.log")]
    assert not any(ANONYMOUS_KEY in text for text in logs)
    assert not any(os.uname().nodename in body for body in server.bodies)


def test_a_killed_process_and_a_lost_answer_double_nothing(tmp_path: Path) -> None:
    with wandb_server(faults=[Fault("file_stream", "lose")]) as server, tracker(settings(tmp_path / "state", server)) as served:
        served.publish(RUN[:12], CONFIG)
        assert server.first_row.wait(20)
        kill_wandb()
        served.publish(RUN[12:])
        eventually(lambda: served.delivered("wandb") == len(RUN), 60.0)
        _, metrics = served.get("/metrics")
    assert steps(server) == STEPS
    assert 'tunevane_tracker_sink_restarts_total{sink="wandb"} 1.0' in metrics


def test_a_restarted_tracker_goes_on_where_the_server_is(tmp_path: Path) -> None:
    with wandb_server() as server:
        with tracker(settings(tmp_path / "state", server)) as served:
            served.publish(RUN[:12], CONFIG)
            assert server.first_row.wait(20)
        with tracker(settings(tmp_path / "state", server)) as served:
            served.publish(RUN[12:])
            eventually(lambda: served.delivered("wandb") == len(RUN), 60.0)
    assert steps(server) == STEPS
    assert server.operations.count("CreateAnonymousApiKey") == 1


def test_a_server_without_anonymous_mode_means_offline_with_one_line_that_says_so(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    with wandb_server(anonymous=False) as server, tracker(settings(folder, server)) as served:
        notices = list(served.publish(RUN, CONFIG).notices)
        eventually(lambda: served.delivered("wandb") == len(RUN))
        notices += served.publish([]).notices
        page = f"View run at http://127.0.0.1:{served.http_port}/runs/some-run"
    (offline,) = (line for line in notices if "wandb sync" in line)
    assert "refuses anonymous runs" in offline
    assert notices.count(page) == 1
    assert len(notices) == 2
    assert steps(server) == []
    with sqlite3.connect(folder / "tracker.sqlite") as database:
        assert ANONYMOUS_KEY not in "\n".join(database.iterdump())
