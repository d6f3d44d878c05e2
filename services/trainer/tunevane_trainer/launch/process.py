"""Workers as child processes on this machine."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import suppress
from pathlib import Path

from tunevane_trainer.launch.port import Assignment


class ProcessWorker:
    """A child process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    async def wait(self) -> int:
        """Waits for its end and returns its exit code; negative is a signal."""
        return await self._process.wait()

    async def stop(self, grace_seconds: float) -> None:
        """Sends SIGTERM, and SIGKILL after the grace."""
        with suppress(ProcessLookupError):
            self._process.terminate()
        try:
            await asyncio.wait_for(self._process.wait(), grace_seconds)
        except TimeoutError:
            with suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()


class ProcessLauncher:
    """Starts `python -m tunevane_trainer.training`."""

    def __init__(self, state_dir: Path, evaluator_blob_dir: Path | None = None) -> None:
        """Chooses where workers keep their blobs: with the service's own, so that nothing is sent twice.

        Args:
            state_dir: The service's folder.
            evaluator_blob_dir: The evaluator's blobs, if they are on the same disk.

        """
        self._blobs = state_dir / "blobs"
        self._evaluator_blobs = evaluator_blob_dir

    async def launch(self, assignment: Assignment) -> ProcessWorker:
        """Starts a worker; its words go to our stderr."""
        settings = {
            "TUNEVANE_WORKER_RUN": assignment.run,
            "TUNEVANE_WORKER_LEASE_TOKEN": assignment.lease_token,
            "TUNEVANE_WORKER_TRAINER": assignment.trainer,
            "TUNEVANE_WORKER_EVALUATOR": assignment.evaluator,
            "TUNEVANE_WORKER_BLOB_DIR": str(self._blobs),
            # The data loaders of a worker may fork, which grpc only survives when it does not try to help.
            "GRPC_ENABLE_FORK_SUPPORT": "0",
        }
        if self._evaluator_blobs is not None:
            settings["TUNEVANE_WORKER_EVALUATOR_BLOB_DIR"] = str(self._evaluator_blobs)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tunevane_trainer.training", env={**os.environ, **settings}
        )
        return ProcessWorker(process)
