"""The parent's end of the pipe to a process that runs wandb."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO

ANSWER_SECONDS = 90.0
"""A child that says nothing for longer is killed."""

_KEPT = ("PATH", "LANG", "LC_ALL", "PYTHONPATH", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE")
_PROXIES = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")


class ChildDiedError(Exception):
    """The process is gone; the sentence says how."""


def environment(home: Path, folder: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """Returns what the child sees: of the user only paths and proxies, and all folders below `home`."""
    kept = {name: environ[name] for name in (*_KEPT, *_PROXIES) if name in environ}
    places = {
        "HOME": home,
        "TMPDIR": home / "tmp",
        "WANDB_DIR": folder,
        "WANDB_CACHE_DIR": home / "cache",
        "WANDB_CONFIG_DIR": home / "config",
        "WANDB_DATA_DIR": home / "data",
        "WANDB_ARTIFACT_DIR": home / "artifacts",
    }
    for place in places.values():
        place.mkdir(parents=True, exist_ok=True)
    # Errors within the wandb package are not reported to its makers.
    return {**kept, **{name: str(place.resolve()) for name, place in places.items()}, "WANDB_ERROR_REPORTING": "false"}


class ChildProcess:
    """One child: send a message and get the answer, or learn that it died."""

    def __init__(self, home: Path, folder: Path, environ: Mapping[str, str]) -> None:
        """Starts the process; `folder` is for the files of its run."""
        env = environment(home, folder, environ)
        with open(folder / "process.log", "ab", opener=_private) as log_file:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "tunevane_tracker.sinks.wandb.child"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log_file,
                cwd=folder,
                env=env,
                # Ctrl-C in a terminal is the tracker's affair.
                start_new_session=True,
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._stdin: IO[bytes] = self._process.stdin
        self._answers: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def ask(self, message: Mapping[str, object], timeout_seconds: float = ANSWER_SECONDS) -> dict[str, object]:
        """Sends a message and waits for the answer.

        Raises:
            ChildDiedError: The process died, failed, or did not answer; it is dead afterwards.

        """
        line = b""
        try:
            self._stdin.write(json.dumps(message, allow_nan=False).encode() + b"\n")
            self._stdin.flush()
            line = self._answers.get(timeout=timeout_seconds)
        except (OSError, ValueError):
            # The pipe is broken, or `kill` has closed it.
            pass
        except queue.Empty:
            self.kill()
            raise ChildDiedError(f"wandb did not answer within {timeout_seconds:.0f} s") from None
        answer: dict[str, object] = json.loads(line) if line else {}
        if not line or answer.get("op") == "failed":
            self.kill()
            how = answer.get("error") or f"exit status {self._process.returncode}"
            raise ChildDiedError(f"the wandb process failed ({how})")
        return answer

    def kill(self) -> None:
        """Ends the process at once and waits until it is gone."""
        self._process.kill()
        self._end()

    def wait(self, timeout_seconds: float) -> None:
        """Lets a process that has finished its run end."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout_seconds)
        self.kill()

    def _end(self) -> None:
        self._process.wait()
        with suppress(OSError):
            self._stdin.close()
        self._reader.join()

    def _read(self, stdout: IO[bytes]) -> None:
        with stdout:
            for line in stdout:
                self._answers.put(line)
        # The end of the pipe is an answer too: there will be no other.
        self._answers.put(b"")


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
