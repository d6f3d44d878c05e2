"""Against a stand-in server, Weights & Biases has the whole run once and in order, with the oldest and newest wandb."""

from __future__ import annotations

import getpass
import json
import logging
import os
import sqlite3
import stat
import sys
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from support import wandb_versions
from support.tracker_events import NDCG, numbered, whole_run
from support.tracker_service import UID, eventually, kill_wandb, tracker
from support.wandb_runs import CONFIG, EXAMPLES, RUN, STEPS, expected, settings, with_examples
from support.wandb_server import ANONYMOUS_KEY, Fault, WandbServer, wandb_server
from tunevane.api.tracker.v1 import tracker_service_pb2 as pb
from tunevane.api.type.v1.event_pb2 import STAGE_AFTER, Event, LogWritten, RunStarted
from tunevane_tracker import service
from tunevane_tracker.delivery import Delivery
from tunevane_tracker.sinks.wandb import sink as sink_module

pytest.importorskip("wandb")

KEY = "k" * 40


@pytest.fixture(autouse=True)
def _no_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(service, "Delivery", partial(Delivery, first_wait_seconds=0.1))


def steps(server: WandbServer) -> list[int]:
    return [row["_step"] for row in server.rows(UID)]


def axis(axes: list[dict[str, Any]], name: str) -> str | None:
    """Tells over what a curve is drawn. The protocol's numbers: 1 a name, 2 a pattern, 5 which of them is the axis."""
    for each in axes:
        if "5" in each and (each.get("1") == name or fnmatch(name, each.get("2", ""))):
            return str(axes[each["5"] - 1]["1"])
    return None


@pytest.mark.parametrize("which", wandb_versions.VERSIONS)
def test_all_of_a_run_is_there_with_either_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, which: str) -> None:
    version = wandb_versions.use(which, monkeypatch)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    run = [*with_examples(whole_run(3))]
    with wandb_server(accounts={KEY}) as server, tracker(settings(tmp_path, server)) as served:
        served.publish(run[:12], CONFIG)
        assert server.first_row.wait(30)
        kill_wandb()
        served.publish(run[12:])
        eventually(lambda: served.delivered("wandb") == len(run), 60.0)
        assert 'tunevane_tracker_sink_restarts_total{sink="wandb"} 1.0' in served.get("/metrics")[1]
        assert server.operations[-1] == "RunResumeStatus", "after the end the server is asked whether it has all rows"
    tables = ("examples/before", "examples/after")
    rows = server.rows(UID)
    assert [{name: value for name, value in row.items() if name not in tables} for row in rows] == expected(run)
    assert [name for row in rows for name in tables if name in row] == list(tables)
    shown = next(row["examples/after"] for row in rows if "examples/after" in row)
    assert (shown["_type"], shown["ncols"], shown["nrows"]) == ("table-file", 7, 2)
    texts = [match["text"] for match in EXAMPLES["minilm"]["queries"][0]["results"]]  # type: ignore[index]
    assert any(all(text in body for text in texts) and '"columns"' in body for body in server.bodies)
    (summary,) = server.summaries.values()
    assert summary[f"before/{NDCG}"] == 0.5
    assert summary[f"after/{NDCG}"] == 0.53
    assert (summary["status"], summary["kept_epoch"]) == ("succeeded", 3)
    assert list(server.complete.values()) == [0]
    assert "Model improved to 0.53!" in [row.get("decisions/best-model-checkpoint/reason") for row in rows]
    sent = [json.loads(variables["config"]) for operation, variables in server.requests if operation == "UpsertBucket"]
    assert {config["_wandb"]["value"]["cli_version"] for config in sent} == {version}
    assert all(config["model"]["value"] == "minilm" for config in sent)
    axes = max((config["_wandb"]["value"]["m"] for config in sent), key=len)
    over = {name: axis(axes, name) for name in ("train/loss", "lr/0", "val/loss", f"metrics/{NDCG}")}
    assert over == {
        "train/loss": "train/global_step",
        "lr/0": "train/global_step",
        "val/loss": "epoch",
        f"metrics/{NDCG}": "epoch",
    }


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
    assert steps(server) == STEPS
    assert sum(line.startswith("View run at ") for line in notices) == 1
    (claim,) = (line for line in notices if server.url in line)
    assert claim.endswith(f"?apiKey={ANONYMOUS_KEY}"), "the claim link belongs to the run's own log"
    assert not any(ANONYMOUS_KEY in text for text in [*shown, caplog.text])
    assert 'tunevane_tracker_wandb_mode{mode="anonymous"} 1.0' in shown[0]
    assert stat.S_IMODE((folder / "wandb" / "anonymous.json").stat().st_mode) == 0o600
    logs = [path.read_text(errors="replace") for path in (folder / "wandb").rglob("*.log")]
    assert not any(ANONYMOUS_KEY in text for text in logs)


def test_nothing_about_the_machine_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_SECRET", "s3cr3t-of-the-shell")
    with wandb_server() as server, tracker(settings(tmp_path / "state", server)) as served:
        served.publish(RUN, CONFIG)
        eventually(lambda: served.delivered("wandb") == len(RUN))
    secrets = [
        os.uname().nodename,
        os.uname().release,
        str(tmp_path),
        str(Path.cwd()),
        sys.prefix,
        sys.executable,
        "s3cr3t-of-the-shell",
    ]
    # A user called "user" would be found in anything.
    secrets += [name for name in [getpass.getuser()] if name not in {"root", "user"}]
    found = [secret for secret in secrets for body in server.bodies if secret in body]
    assert found == []
    assert all(variables.get("host") in (None, "tunevane") for _, variables in server.requests)


def test_an_upload_that_the_server_ended_silently_is_noticed_at_the_end(tmp_path: Path) -> None:
    # wandb stops sending a run for good after one 404, and then finishes it as if nothing had happened.
    faults = [Fault("file_stream", "answer", 404, after=1)]
    with wandb_server(faults=faults) as server, tracker(settings(tmp_path / "state", server)) as served:
        served.publish(RUN[:12], CONFIG)
        eventually(lambda: server.failures == 1)
        served.publish(RUN[12:])
        eventually(lambda: served.delivered("wandb") == len(RUN), 60.0)
    assert steps(server) == STEPS


@pytest.mark.nightly
def test_an_event_that_the_server_never_takes_is_put_aside_and_the_others_arrive(tmp_path: Path) -> None:
    run = [*with_examples(whole_run(1))]
    options = {**CONFIG, "callbacks": [{"name": "wandb-logger", "options": {"log_zero_shot": False}}]}
    # Only a table asks for the type of its artifact.
    faults = [Fault("ArtifactType", "nothing", times=1000)]
    with wandb_server(faults=faults) as server, tracker(settings(tmp_path / "state", server)) as served:
        served.publish(run, options)
        eventually(lambda: served.delivered("wandb") == len(run), 100.0)
        look = pb.GetTrackedRunRequest(run="runs/some-run")
        problems = {state.sink: state.problem for state in served.stub.GetTrackedRun(look).sinks}
    measured_after = next(event.sequence for event in run if event.metrics_measured.stage == STAGE_AFTER)
    assert problems["wandb"].endswith(f"events {measured_after}")
    rows = expected(run, {"log_zero_shot": False})
    assert server.rows(UID) == [row for row in rows if row["_step"] != measured_after]
    assert list(server.complete.values()) == [0]


def test_rows_that_do_not_arrive_are_noticed_while_the_run_is_under_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sink_module, "CHECK_SECONDS", 0.5)
    faults = [Fault("file_stream", "answer", 404)]
    with wandb_server(faults=faults) as server, tracker(settings(tmp_path / "state", server)) as served:
        served.publish(RUN[:12], CONFIG)
        eventually(lambda: server.failures == 1)
        reports = iter(numbered([Event(log_written=LogWritten(text="a line")) for _ in range(1000)], 13))

        def arrived() -> bool:
            # A run under way always has something to tell.
            served.publish([next(reports)])
            return steps(server) == [row["_step"] for row in expected(RUN[:12])]

        eventually(arrived, 60.0)


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


def test_lines_after_the_end_open_nothing_but_a_run_that_goes_on_does(tmp_path: Path) -> None:
    line = numbered([Event(log_written=LogWritten(text="View run at somewhere"))], len(RUN) + 1)
    resumed = [Event(run_started=RunStarted(resumed_after_epoch=3, epochs=4)), *whole_run(4)[-10:]]
    more = numbered(resumed, len(RUN) + 2)
    with wandb_server() as server, tracker(settings(tmp_path / "state", server)) as served:
        served.publish(RUN, CONFIG)
        eventually(lambda: served.delivered("wandb") == len(RUN))
        asked = len(server.requests)
        served.publish(line)
        eventually(lambda: served.delivered("wandb") == len(RUN) + 1)
        assert len(server.requests) == asked
        served.publish(more)
        eventually(lambda: served.delivered("wandb") == more[-1].sequence and len(server.requests) > asked, 60.0)
    assert server.rows(UID) == expected([*RUN, *line, *more])


def test_without_anonymous_mode_a_line_says_so_and_the_run_is_sent_once_a_key_turns_up(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    with wandb_server(anonymous=False) as server:
        with tracker(settings(folder, server, wandb_retry_seconds=600.0)) as served:
            notices = list(served.publish(RUN, CONFIG).notices)
            eventually(lambda: served.delivered("wandb") == len(RUN))
            served.publish(RUN[:9], CONFIG, "2e7f")
            eventually(lambda: served.delivered("wandb", "2e7f") == 9)
            notices += served.publish([]).notices
            page = f"View run at http://127.0.0.1:{served.http_port}/runs/some-run"
        (offline,) = (line for line in notices if "wandb sync" in line)
        assert "refuses anonymous runs" in offline
        assert notices.count(page) == 1
        assert len(notices) == 2
        assert server.history == {}
        with sqlite3.connect(folder / "tracker.sqlite") as database:
            assert ANONYMOUS_KEY not in "\n".join(database.iterdump())
        with tracker(settings(folder, server, wandb_retry_seconds=0.5)) as served:
            server.anonymous = True
            # The run that ended offline, and one that was under way.
            eventually(lambda: steps(server) == STEPS, 60.0)
            served.publish(RUN[9:], None, "2e7f")
            eventually(lambda: served.delivered("wandb", "2e7f") == len(RUN), 60.0)
            late = list(served.publish([]).notices)
    assert server.rows(UID) == server.rows("2e7f") == expected(RUN)
    assert [line for line in late if line.startswith("Weights & Biases has the run at ")] == late
