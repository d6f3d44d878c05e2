"""The parent's end of the pipe to a sink's process: a JSON object a line, in both directions."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

ANSWER_SECONDS = 90.0
"""A child that says nothing for longer is killed."""


class ChildDiedError(Exception):
    """The process is gone; the sentence says how."""


class ChildProcess:
    """One child: send a message and get the answer, or learn that it died."""

    def __init__(
        self,
        what: str,
        arguments: Sequence[str],
        folder: Path,
        env: Mapping[str, str],
        on_remark: Callable[[dict[str, object]], None] | None = None,
    ) -> None:
        """Starts the process.

        Args:
            what: Whose process it is, for sentences.
            arguments: For the interpreter, after its own options.
            folder: Where it works and keeps its log.
            env: All that it sees of the environment.
            on_remark: Gets what the child says without having been asked; called from a thread.

        """
        self._what = what
        self._on_remark = on_remark
        with open(folder / "process.log", "ab", opener=_private) as log_file:
            self._process = subprocess.Popen(
                [sys.executable, "-P", *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log_file,
                cwd=folder,
                env=dict(env),
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
            raise ChildDiedError(f"{self._what} did not answer within {timeout_seconds:.0f} s") from None
        answer: dict[str, object] = json.loads(line) if line else {}
        if not line or answer.get("op") == "failed":
            self.kill()
            how = answer.get("error") or f"exit status {self._process.returncode}"
            raise ChildDiedError(f"the {self._what} process failed ({how})")
        return answer

    def kill(self) -> None:
        """Ends the process and those that it started, at once, and waits until it is gone."""
        if self._process.returncode is None:
            # Not waited for, so its number, which is that of its group, cannot be anybody else's.
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        with suppress(OSError):
            self._stdin.close()
        self._reader.join()

    def wait(self, timeout_seconds: float) -> None:
        """Lets a process that has finished its work end."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout_seconds)
        self.kill()

    def _read(self, stdout: IO[bytes]) -> None:
        with stdout:
            for line in stdout:
                if line.startswith(b'{"op": "remark"'):
                    if self._on_remark is not None:
                        self._on_remark(json.loads(line))
                else:
                    self._answers.put(line)
        # The end of the pipe is an answer too: there will be no other.
        self._answers.put(b"")


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
