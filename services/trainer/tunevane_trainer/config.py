"""Settings of the trainer service."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tunevane.errors import Problem


@dataclass(frozen=True)
class TrainerConfig:
    """Settings of the trainer service: `TUNEVANE_TRAINER_<NAME>`, or table `[trainer]` of the settings file."""

    host: str = "127.0.0.1"
    """Address to listen on."""

    port: int = 50051
    """Port to listen on; 0 lets the system choose."""

    state_dir: Path = Path(".tunevane/trainer")
    """Where runs, their histories and their blobs are kept. Back this folder up."""

    evaluator: str = "127.0.0.1:50052"
    """Address of the evaluator service, as workers reach it."""

    evaluator_blob_dir: Path | None = None
    """Where the evaluator keeps its blobs, if that is on the disk of `state_dir`: checkpoints are not sent then, the
    files are the same ones. None sends them."""

    tracker: str | None = None
    """Address of the tracker service; None mirrors runs nowhere."""

    max_workers: int = 1
    """Runs trained at the same time; the others wait."""

    lease_seconds: float = 30.0
    """A worker that is silent for longer is replaced."""

    blob_grace_seconds: float = 600.0
    """Blobs that nothing refers to are removed once they are older than this."""

    drain_seconds: float = 5.0
    """How long calls under way may go on at shutdown."""

    metrics_host: str = "127.0.0.1"
    """Address on which `/metrics` and `/healthz` are served over HTTP, for Prometheus."""

    metrics_port: int | None = None
    """Port of `/metrics`; 0 lets the system choose, None serves none."""

    def problems(self) -> Iterator[Problem]:
        """Yields what is wrong with the values."""
        if not 0 <= self.port <= 65535:
            yield Problem("port", f"must be in [0, 65535], not {self.port}")
        if self.metrics_port is not None and not 0 <= self.metrics_port <= 65535:
            yield Problem("metrics_port", f"must be in [0, 65535], not {self.metrics_port}")
        if self.max_workers < 1:
            yield Problem("max_workers", f"must be at least 1, not {self.max_workers}")
        for name in ("lease_seconds", "blob_grace_seconds"):
            if getattr(self, name) <= 0:
                yield Problem(name, f"must be positive, not {getattr(self, name)}")
