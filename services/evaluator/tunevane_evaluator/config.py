"""Settings of the evaluator service."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tunevane.errors import Problem


@dataclass(frozen=True)
class EvaluatorConfig:
    """Settings: `TUNEVANE_EVALUATOR_<NAME>`, or table `[evaluator]` of the settings file."""

    host: str = "127.0.0.1"
    """Address to listen on."""

    port: int = 50052
    """Port to listen on; 0 lets the system choose."""

    state_dir: Path = Path(".tunevane/evaluator")
    """Cache of blobs and remembered results; losing it costs time only."""

    device: str = "auto"
    """`auto`, `cpu` or `cuda`."""

    qdrant_url: str | None = None
    """gRPC address of a Qdrant server; None runs the embedded engine in a child process."""

    qdrant_api_key: str | None = None
    """Key of the Qdrant server."""

    qdrant_ca_file: Path | None = None
    """Certificates, PEM, by which the Qdrant server is known; None uses those of the system."""

    search_engine: Literal["qdrant", "torch"] = "qdrant"
    """`qdrant` searches in Qdrant, a server or the embedded engine; `torch` in this process's memory, on its device."""

    queue_limit: int = 64
    """Evaluations that may be under way or wait; more are refused."""

    run_queue_limit: int = 8
    """How many of them may be for one run; runs take turns."""

    blob_limit_bytes: int = 20_000_000_000
    """Size of the blob cache; the least recently used blobs make room."""

    feature_limit_bytes: int = 4_000_000_000
    """Size of the cache of token ids and scaled images; the least recently used make room."""

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
        for name in ("queue_limit", "run_queue_limit", "blob_limit_bytes", "feature_limit_bytes"):
            if getattr(self, name) < 1:
                yield Problem(name, f"must be at least 1, not {getattr(self, name)}")
