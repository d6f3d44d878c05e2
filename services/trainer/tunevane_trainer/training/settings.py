"""Settings of a worker, as its launcher gives them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class WorkerConfig:
    """Settings of one worker: `TUNEVANE_WORKER_<NAME>`."""

    run: str
    """`runs/{run}`."""

    lease_token: str
    """Secret that lets it write to the run."""

    trainer: str
    """Address of the trainer service."""

    evaluator: str
    """Address of the evaluator service."""

    blob_dir: Path
    """Where blobs are kept; the trainer's own folder where worker and service share a disk."""

    evaluator_blob_dir: Path | None = None
    """Where the evaluator keeps its blobs, if that is on the disk of `blob_dir`; None sends checkpoints to it."""

    processes: int = 1
    """Processes on this machine that train together; torchrun and Kubernetes start them otherwise, by `RANK`."""
