"""Without a server, Weights & Biases gets a file that the real package wrote: each row once, in order."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.tracker_events import NDCG, whole_run
from support.tracker_service import NAME, eventually, kill_wandb, tracker
from tunevane_tracker.config import TrackerConfig
from tunevane_tracker.sinks.wandb import sink as sink_module

pb = pytest.importorskip("wandb.proto.wandb_internal_pb2")

RUN = whole_run()
CONFIG = {"model": "minilm", "callbacks": [{"name": "wandb-logger", "options": {"metrics_logger_step": "batch"}}]}
BLOCK_BYTES = 32 * 1024
HEADER_BYTES = 7


def settings(folder: Path, port: int = 9) -> TrackerConfig:
    # Nothing listens on the port "discard": every step of the ladder fails at once.
    return TrackerConfig(port=0, http_port=0, state_dir=folder, wandb_base_url=f"http://127.0.0.1:{port}")


def records(path: Path) -> Iterator[bytes]:
    """Reads the records of a `.wandb` file: LevelDB's log format behind a header of seven bytes."""
    data = path.read_bytes()
    assert data[:4] == b":W&B"
    offset, parts = 7, b""
    while offset + HEADER_BYTES <= len(data):
        left = BLOCK_BYTES - offset % BLOCK_BYTES
        if left < HEADER_BYTES:
            offset += left
            continue
        size, kind = int.from_bytes(data[offset + 4 : offset + 6], "little"), data[offset + 6]
        content = data[offset + HEADER_BYTES : offset + HEADER_BYTES + size]
        assert int.from_bytes(data[offset : offset + 4], "little") == zlib.crc32(bytes([kind]) + content)
        offset += HEADER_BYTES + size
        parts += content
        if kind in (1, 4):
            yield parts
            parts = b""


def history(path: Path) -> list[dict[str, object]]:
    rows = []
    for content in records(path):
        record = pb.Record.FromString(content)
        if record.WhichOneof("record_type") == "history":
            items = record.history.item
            row = {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}
            rows.append(row | {"_step": record.history.step.num})
    return rows


@pytest.fixture(autouse=True)
def _no_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))


def test_rows_are_written_once_and_in_order(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    with tracker(settings(folder)) as served:
        notices = list(served.publish(RUN[:5], CONFIG).notices)
        eventually(lambda: served.delivered("wandb") == 5)
        notices += served.publish(RUN[5:9]).notices
        notices += served.publish(RUN[5:]).notices
        eventually(lambda: served.delivered("wandb") == len(RUN))
        notices += served.publish([]).notices
    assert sum("View run at " in line for line in notices) == 1
    # A call that is repeated gets the lines of its answer again.
    (offline,) = {line for line in notices if "wandb sync " in line}
    assert "offline" in offline
    (path,) = folder.rglob("*.wandb")
    rows = history(path)
    steps = [int(str(row["_step"])) for row in rows]
    assert steps == sorted(set(steps))
    by_step = {int(str(row["_step"])): row for row in rows}
    losses = [event for event in RUN if event.WhichOneof("kind") == "step_reported"]
    assert [by_step[event.sequence]["train/loss"] for event in losses] == [event.step_reported.loss for event in losses]
    assert by_step[2][f"metrics/{NDCG}"] == 0.5
    host = os.uname().nodename.encode()
    assert host not in path.read_bytes()


def test_a_restart_in_the_middle_writes_the_run_over(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    with tracker(settings(folder)) as served:
        served.publish(RUN[:6], CONFIG)
        eventually(lambda: served.delivered("wandb") == 6)
    with tracker(settings(folder)) as served:
        served.publish(RUN[6:])
        eventually(lambda: served.delivered("wandb") == len(RUN))
    (path,) = folder.rglob("*.wandb")
    steps = [int(str(row["_step"])) for row in history(path)]
    assert steps == sorted(set(steps))
    assert min(steps) == 2


def test_a_run_without_the_logger_is_not_mirrored(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    with tracker(settings(folder)) as served:
        notices = served.publish(RUN, {"callbacks": [{"name": "early-stopping"}]}).notices
        assert list(notices) == [f"View run at http://127.0.0.1:{served.http_port}/runs/{NAME}"]
    assert not list(folder.rglob("*.wandb"))


def test_a_killed_process_writes_the_run_over(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    with tracker(settings(folder)) as served:
        served.publish(RUN[:6], CONFIG)
        eventually(lambda: served.delivered("wandb") == 6)
        kill_wandb()
        served.publish(RUN[6:])
        eventually(lambda: served.delivered("wandb") == len(RUN))
    (path,) = folder.rglob("*.wandb")
    steps = [int(str(row["_step"])) for row in history(path)]
    assert steps == sorted(set(steps))
    assert min(steps) == 2


def test_without_the_package_a_line_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shadow = tmp_path / "shadow"
    shadow.mkdir()
    (shadow / "wandb.py").write_text("raise ImportError('not here')")
    monkeypatch.setenv("PYTHONPATH", f"{shadow}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    with tracker(settings(tmp_path / "state")) as served:
        notices = list(served.publish(RUN, CONFIG).notices)
        _, metrics = served.get("/metrics")
    assert notices == [
        "Weights & Biases: nothing is mirrored, because its package is missing: install tunevane[tracker]",
        f"View run at http://127.0.0.1:{served.http_port}/runs/{NAME}",
    ]
    assert 'tunevane_tracker_wandb_mode{mode="off"} 1.0' in metrics


@pytest.mark.nightly
def test_a_run_that_was_left_gives_its_process_to_one_that_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sink_module, "IDLE_SECONDS", 0.0)
    folder = tmp_path / "state"
    config = TrackerConfig(port=0, http_port=0, state_dir=folder, wandb="offline", wandb_processes=1)
    with tracker(config) as served:
        served.publish(RUN[:5], CONFIG, "left")
        eventually(lambda: served.delivered("wandb", "left") == 5)
        served.publish(RUN, CONFIG, "new")
        eventually(lambda: served.delivered("wandb", "new") == len(RUN))
        served.publish(RUN[5:], None, "left")
        eventually(lambda: served.delivered("wandb", "left") == len(RUN))
    for uid in ("left", "new"):
        (path,) = (folder / "wandb" / "runs" / uid).rglob("*.wandb")
        steps = [int(str(row["_step"])) for row in history(path)]
        assert steps == sorted(set(steps))
        assert (min(steps), len(steps)) == (2, 13)
