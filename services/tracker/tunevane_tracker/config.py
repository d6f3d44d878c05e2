"""Settings of the tracker service."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from tunevane.errors import Problem


@dataclass(frozen=True)
class TrackerConfig:
    """Settings of the tracker service: `TUNEVANE_TRACKER_<NAME>`, or table `[tracker]` of the settings file."""

    host: str = "127.0.0.1"
    """Address to listen on for gRPC."""

    port: int = 50053
    """Port to listen on for gRPC; 0 lets the system choose."""

    http_host: str = "127.0.0.1"
    """Address to listen on for pages and metrics. Outside loopback the pages need `http_token`."""

    http_port: int = 8090
    """Port to listen on for pages and metrics; 0 lets the system choose."""

    http_token: str | None = None
    """Who opens a page has to know it, when it is set; `/metrics` and `/healthz` are open."""

    public_url: str | None = None
    """Where people reach the pages, if not at `http_host` and `http_port`, for example behind a proxy."""

    state_dir: Path = Path(".tunevane/tracker")
    """Where events, cursors and the files of Weights & Biases are kept."""

    wandb: Literal["auto", "offline", "off"] = "auto"
    """`auto` tries an account, then anonymous mode, then offline; `offline` only writes files; `off` does nothing."""

    wandb_base_url: str | None = None
    """Address of the W&B server; None takes what the wandb package says."""

    wandb_project: str = "tunevane"
    """Project of runs that name none in `wandb_args`."""

    wandb_processes: int = 8
    """Runs mirrored to W&B at the same time, each by a process of its own; the others wait."""

    wandb_finish_seconds: int = 30
    """How long W&B may take for the rest of a run that has ended, before it is tried again."""

    wandb_transmit_seconds: float = 15.0
    """How often W&B gets what has gathered; below 1 the wandb package takes its own default."""

    wandb_retry_seconds: float = 300.0
    """How often W&B is tried again while it cannot be used; runs that were kept offline are sent then."""

    sinks: tuple[str, ...] = ()
    """Further places that runs are mirrored to, by name: `jsonl`, `mlflow`, `tensorboard`, or a plug-in's."""

    sinks_dir: Path | None = None
    """Where those that write files write them, each into a folder of its name; None takes `sinks` in `state_dir`."""

    max_runs: int = 100_000
    """Runs that are kept; the events of further ones are refused."""

    drain_seconds: float = 5.0
    """How long calls under way may go on at shutdown."""

    def problems(self) -> Iterator[Problem]:
        """Yields what is wrong with the values."""
        for name in ("port", "http_port"):
            if not 0 <= getattr(self, name) <= 65535:
                yield Problem(name, f"must be in [0, 65535], not {getattr(self, name)}")
        for name in ("max_runs", "wandb_processes", "wandb_finish_seconds"):
            if getattr(self, name) < 1:
                yield Problem(name, f"must be at least 1, not {getattr(self, name)}")
        if self.wandb_transmit_seconds < 1:
            yield Problem("wandb_transmit_seconds", f"must be at least 1, not {self.wandb_transmit_seconds}")
        if not 0 < self.wandb_retry_seconds < math.inf:
            yield Problem("wandb_retry_seconds", f"must be above 0 and finite, not {self.wandb_retry_seconds}")
        if self.drain_seconds < 0:
            yield Problem("drain_seconds", f"must not be negative, not {self.drain_seconds}")
        for name in ("wandb_base_url", "public_url"):
            url = getattr(self, name)
            if url is not None and (urlsplit(url).scheme not in {"http", "https"} or not urlsplit(url).netloc):
                yield Problem(name, f"must begin with http:// or https:// and name a host, not {url!r}")
        if self.http_token is not None and len(self.http_token) < 16:
            yield Problem("http_token", "must have at least 16 characters")


def is_loopback(host: str) -> bool:
    """Tells whether only this machine reaches an address."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
