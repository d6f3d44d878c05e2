"""Finds the services of this machine, and starts them where they are not running."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from tunevane.errors import StackStartError, StorageFullError, UnavailableError
from tunevane.rpc.channel import connect, wait_ready

HOME_VARIABLE = "TUNEVANE_HOME"
IDLE_SECONDS = 600
START_SECONDS = 60.0
FILE = "stack.json"
LOG = "stack.log"
CLIENTS = "clients"
RUNNING_LOCK = "running.lock"

# The supervisor outlives us on purpose; the reference keeps Python from complaining about a child that still runs.
_started: list[subprocess.Popen[bytes]] = []


@dataclass(frozen=True)
class Stack:
    """Where the services of this machine answer."""

    pid: int
    """Process id of their supervisor."""

    trainer: str
    """Address of the trainer."""

    evaluator: str
    """Address of the evaluator."""

    tracker: str
    """Address of the tracker."""

    pages: str
    """URL of the run pages; `/metrics` below it is for Prometheus."""


def home() -> Path:
    """Returns the folder of everything that the local services keep: `TUNEVANE_HOME`, or the user's data folder."""
    chosen = os.environ.get(HOME_VARIABLE)
    if chosen:
        return Path(chosen).expanduser().resolve()
    import platformdirs

    return Path(platformdirs.user_data_path("tunevane"))


def is_alive(pid: int) -> bool:
    """Tells whether a process exists."""
    try:
        # A child of ours that has ended stays in the process table until it is asked.
        for process in _started:
            if process.pid == pid and process.poll() is not None:
                return False
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def running(folder: Path) -> Stack | None:
    """Returns the services that run on a folder, or None."""
    try:
        stack = Stack(**json.loads((folder / FILE).read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):
        return None
    if not is_alive(stack.pid):
        return None
    channel = connect(stack.trainer)
    try:
        wait_ready(channel, stack.trainer, 5.0)
    except UnavailableError:
        return None
    finally:
        channel.close()
    return stack


def ensure(folder: Path | None = None) -> Stack:
    """Returns the local services, which are started where they are not running.

    They run in the background: a script that ends does not end its runs. Once nobody uses them and no run is active,
    they go to sleep after ten minutes.

    Raises:
        StackStartError: They do not start; the message carries their last words.

    """
    place = home() if folder is None else folder
    try:
        (place / CLIENTS).mkdir(parents=True, exist_ok=True)
        (place / CLIENTS / str(os.getpid())).touch()
    except OSError as error:
        raise StackStartError(
            f"{place} cannot be written ({error.strerror}); set {HOME_VARIABLE} to another folder"
        ) from error
    with _locked(place / "start.lock"):
        found = running(place)
        return _start(place) if found is None else found


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _start(place: Path) -> Stack:
    (place / FILE).unlink(missing_ok=True)
    log = place / LOG
    command = [
        sys.executable,
        "-m",
        "tunevane",
        "serve",
        "local",
        "--home",
        str(place),
        "--idle-seconds",
        str(IDLE_SECONDS),
    ]
    with log.open("ab") as words:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=words, stderr=words, start_new_session=True
        )
    _started.append(process)
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        stack = running(place)
        if stack is not None:
            return stack
        if process.poll() is not None:
            break
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.1)
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    last = lines[-1] if lines else "nothing"
    raise StackStartError(f"the local services did not start; their last words: {last} (all of them are in {log})")


def write(folder: Path, stack: Stack) -> None:
    """Tells others where the services answer, in one step.

    Raises:
        StorageFullError: The disk is full.

    """
    scratch = folder / f".{FILE}.{os.getpid()}"
    try:
        scratch.write_text(json.dumps(asdict(stack)), encoding="utf-8")
        scratch.replace(folder / FILE)
    except OSError as error:
        raise StorageFullError(f"{folder} cannot be written: {error.strerror}") from error


def stop(folder: Path | None = None, timeout_seconds: float = 30.0) -> bool:
    """Ends the local services and waits; runs that are active go on when the services are started again.

    Returns:
        Whether there were any.

    """
    place = home() if folder is None else folder
    stack = running(place)
    if stack is None:
        return False
    os.kill(stack.pid, signal.SIGTERM)
    until = time.monotonic() + timeout_seconds
    while time.monotonic() < until and _is_locked(place / RUNNING_LOCK):
        time.sleep(0.05)
    for process in _started:
        # Ours is a child of this process, and its exit code wants to be read.
        if process.pid == stack.pid:
            process.wait(timeout_seconds)
    return True


def _is_locked(path: Path) -> bool:
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
