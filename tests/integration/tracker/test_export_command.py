"""Where an export comes from and goes to: a tracker that runs or has ended, a file, and never over something else."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.exported import CONFIG, EVENTS, exact, source
from support.tracker_events import whole_run
from support.tracker_service import NAME, UID, Served, tracker
from tunevane.api.type.v1.event_pb2 import (
    Event,
)
from tunevane.errors import ConfigurationError, NotFoundError, StorageFullError, UnavailableError
from tunevane_tracker.config import TrackerConfig
from tunevane_tracker.export import jsonl
from tunevane_tracker.export.export import FORMATS, Format, export
from tunevane_tracker.export.source import Source, offline, remote


@pytest.fixture(scope="module")
def state_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tracker")


@pytest.fixture(scope="module")
def served(state_dir: Path) -> Iterator[Served]:
    with tracker(TrackerConfig(port=0, http_port=0, state_dir=state_dir, wandb="off")) as made:
        for begin in range(0, len(EVENTS), 400):
            made.publish(EVENTS[begin : begin + 400], CONFIG if begin == 0 else None)
        yield made


def test_the_folder_of_a_tracker_that_has_ended_gives_the_same(tmp_path: Path) -> None:
    folder, events = tmp_path / "state", whole_run(2)
    with tracker(TrackerConfig(port=0, http_port=0, state_dir=folder, wandb="off")) as made:
        made.publish(events, CONFIG)
        asked = tmp_path / "asked.jsonl"
        with remote(made.target, UID) as found:
            export(found, FORMATS["jsonl"], asked)
        with pytest.raises(ConfigurationError, match="another tracker uses the state_dir"), offline(folder, NAME):
            pass
    read = tmp_path / "read.jsonl"
    with offline(folder, NAME) as found:
        export(found, FORMATS["jsonl"], read)
    assert read.read_bytes() == asked.read_bytes()


def test_a_run_without_events_is_exported_in_every_format(tmp_path: Path) -> None:
    for name, chosen in FORMATS.items():
        path = tmp_path / f"empty{chosen.ending}"
        export(source([]), chosen, path)
        assert path.exists(), name


def test_what_is_there_is_not_overwritten_by_accident_and_a_failure_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    path.write_text("mine")
    with pytest.raises(ConfigurationError, match="exists already"):
        export(source([]), FORMATS["jsonl"], path)
    assert path.read_text() == "mine"

    def broken() -> Iterator[Event]:
        yield Event(sequence=1)
        raise UnavailableError("gone")

    about = source([]).run
    with pytest.raises(UnavailableError):
        export(Source(about, broken()), FORMATS["jsonl"], path, replace=True)
    assert path.read_text() == "mine"
    assert list(tmp_path.iterdir()) == [path]
    export(source([]), FORMATS["jsonl"], path, replace=True)
    assert path.read_text().startswith('{"run"')


def test_a_folder_with_other_files_is_never_removed(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    export(source(EVENTS[:3]), FORMATS["tensorboard"], folder)
    export(source(EVENTS), FORMATS["tensorboard"], folder, replace=True)
    (file,) = folder.rglob("events.out.tfevents.*")
    (folder / "thesis.tex").write_text("mine")
    for name in ("tensorboard", "jsonl"):
        with pytest.raises(ConfigurationError, match="a folder with other files in it"):
            export(source(EVENTS), FORMATS[name], folder, replace=True)
    assert file.exists()
    assert (folder / "thesis.tex").read_text() == "mine"


def test_a_full_disk_gets_a_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    def fill_up(_: Source, path: Path) -> None:
        path.write_text("half of it")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(StorageFullError, match="is full; nothing was left of the export"):
        export(source([]), Format(".any", fill_up), tmp_path / "run.any")
    assert not list(tmp_path.iterdir())


def test_unknown_runs_and_folders_get_a_sentence(served: Served, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="the tracker knows no run 'nobody'"), remote(served.target, "nobody"):
        pass
    with pytest.raises(ConfigurationError, match=r"no tracker's state_dir"), offline(tmp_path, NAME):
        pass


def command(*words: str, home: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "TUNEVANE_HOME": str(home)}
    return subprocess.run(
        [sys.executable, "-m", "tunevane", "tracker", "export", *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=environment,
        cwd=home,
    )


def test_the_command_writes_a_file_named_like_the_run(served: Served, tmp_path: Path) -> None:
    done = command(NAME, "--target", served.target, home=tmp_path)
    assert (done.returncode, done.stdout) == (0, f"{NAME}.jsonl\n"), done.stderr
    assert exact(list(jsonl.read(tmp_path / f"{NAME}.jsonl"))) == exact(EVENTS)
    done = command(NAME, "--target", served.target, "--format", "openmetrics", "--output", "-", home=tmp_path)
    assert done.stdout.endswith("# EOF\n")


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (("a-run", "--format", "csv"), 2, "format: must be one of jsonl, openmetrics, parquet, tensorboard, not 'csv'"),
        (("a-run",), 2, "no tracker's state_dir"),
        (("a-run", "--target", "x:1", "--state-dir", "y"), 2, "state_dir: cannot be given together with a target"),
        (("a-run", "--format", "tensorboard", "--output", "-"), 2, "must be a folder for tensorboard"),
        (("a-run", "--output", "nowhere/at/all.jsonl"), 2, "there is no folder"),
    ],
)
def test_a_wrong_command_gets_one_sentence(tmp_path: Path, words: tuple[str, ...], code: int, sentence: str) -> None:
    done = command(*words, home=tmp_path)
    assert done.returncode == code, done.stderr
    assert sentence in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert "Traceback" not in done.stderr
