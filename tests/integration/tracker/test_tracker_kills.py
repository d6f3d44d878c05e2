"""kill -9 of trainer and tracker at any moment: no event is lost, none is there twice."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

import support
from support.tracker_process import TrackerProcess
from support.trainer_parts import RUN, UID, make_runs
from tunevane_tracker.journal import Journal

TESTS = Path(next(iter(support.__path__))).parent


def producer(folder: Path, target: str, steps: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "support.event_producer", str(folder), target, str(steps)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def run_with_kills(folder: Path, steps: int, kills: int, seed: int) -> None:
    draw = random.Random(seed)
    tracker = TrackerProcess(folder / "tracker")
    try:
        moments = sorted(draw.randrange(steps) for _ in range(kills))
        process = producer(folder, tracker.target, steps)
        while True:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                assert process.wait(60) == 0
                process.stdout.close()
                break
            if not moments or int(line) < moments[0]:
                continue
            moments.pop(0)
            victims = draw.choice([("tracker",), ("producer",), ("tracker", "producer")])
            if "tracker" in victims:
                tracker.kill()
            if "producer" in victims:
                process.kill()
                process.wait(60)
                process.stdout.close()
                process = producer(folder, tracker.target, steps)
            if "tracker" in victims:
                tracker.start()
        assert not moments
    finally:
        if process.poll() is None:
            process.kill()
        tracker.stop()
    runs, journal = make_runs(folder), Journal(folder / "tracker" / "tracker.sqlite", clock=lambda: 0.0)
    written = runs.store.events(RUN, 0, 10_000_000)
    tracked = journal.events(journal.run(UID), 0, 10_000_000)
    assert [event.step for event in written if event.HasField("step_reported")] == list(range(1, steps + 1))
    assert tracked == written
    assert [event.sequence for event in tracked] == list(range(1, len(written) + 1))
    journal.close()
    runs.close()


def test_kills_of_trainer_and_tracker_lose_and_double_nothing(tmp_path: Path) -> None:
    run_with_kills(tmp_path, steps=40_000, kills=6, seed=1)


@pytest.mark.nightly
@pytest.mark.timeout(1800)
def test_sixty_kills_over_half_a_million_events(tmp_path: Path) -> None:
    run_with_kills(tmp_path, steps=500_000, kills=60, seed=2)
