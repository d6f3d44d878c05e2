"""Panels that more than one dashboard has: calls and processes of the services."""

from __future__ import annotations

from collections.abc import Iterator

from dashboards.colors import GREEN, ORANGE, RED, SERVICE_COLORS
from dashboards.parts import Chart, Query, chart

ABOUT = "on (instance, job) group_left (service) tunevane_build_info"
"""Tells which service a process is; the names of jobs are the operator's."""


def _of(service: str) -> str:
    return f'{{service="{service}"}}' if service else ""


def calls(service: str = "") -> Iterator[Chart]:
    """Yields charts of gRPC calls, of one service or of all."""
    about = f"{ABOUT}{_of(service)}"
    handled = f"rate(grpc_server_handled_total[$__rate_interval]) * {about}"
    yield chart(
        "Calls",
        "gRPC calls ended, by status.",
        "reqps",
        Query(f"sum by (grpc_code) ({handled})", "{{grpc_code}}"),
        span=8,
        colors={"OK": GREEN, "UNAVAILABLE": ORANGE, "INTERNAL": RED, "UNKNOWN": RED, "DATA_LOSS": RED},
        stacked=True,
        lowest=0,
    )
    buckets = f"rate(grpc_server_handling_seconds_bucket[$__rate_interval]) * {about}"
    yield chart(
        "Slowest 5 % of calls",
        "Time within which 95 % of the calls of a method end; watching and evaluating take as long as their work.",
        "s",
        Query(
            f"histogram_quantile(0.95, sum by (le, grpc_method) ({buckets}))",
            "{{grpc_method}}",
        ),
        span=8,
        lowest=0,
    )
    yield chart(
        "Calls under way",
        "By method.",
        "none",
        Query(f"sum by (grpc_method) (grpc_server_in_flight_requests * {about})", "{{grpc_method}}"),
        span=8,
        stacked=True,
        lowest=0,
    )


def processes(service: str = "") -> Iterator[Chart]:
    """Yields charts of what processes use, of one service or of all."""
    about = f"{ABOUT}{_of(service)}"
    yield chart(
        "Processor",
        "Cores that a service keeps busy; without its workers and engines, which are processes of their own.",
        "none",
        Query(f"sum by (service) (rate(process_cpu_seconds_total[$__rate_interval]) * {about})", "{{service}}"),
        span=8,
        colors=SERVICE_COLORS,
        lowest=0,
    )
    yield chart(
        "Memory",
        "Resident memory.",
        "bytes",
        Query(f"sum by (service) (process_resident_memory_bytes * {about})", "{{service}}"),
        span=8,
        colors=SERVICE_COLORS,
        lowest=0,
    )
    yield chart(
        "Open files",
        "Of those that the process may open.",
        "percentunit",
        Query(f"max by (service) (process_open_fds / process_max_fds * {about})", "{{service}}"),
        span=8,
        colors=SERVICE_COLORS,
        lowest=0,
    )
