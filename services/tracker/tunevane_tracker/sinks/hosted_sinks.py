"""The built-in sinks that have a process of their own; only that process imports what they need."""

from __future__ import annotations

from dataclasses import replace

from tunevane_tracker.sinks.context import SinkContext
from tunevane_tracker.sinks.hosted import HostedSink

_MLFLOW = {
    # It would tell its makers how it is used.
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # We repeat ourselves, and sooner.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
}


def jsonl(context: SinkContext) -> HostedSink:
    """Writes JSON lines."""
    return HostedSink(context, "tunevane_tracker.sinks.jsonl:JsonLinesWriter")


def tensorboard(context: SinkContext) -> HostedSink:
    """Writes event files for TensorBoard."""
    return HostedSink(context, "tunevane_tracker.sinks.tensorboard:TensorBoardWriter", needs="tensorboard")


def mlflow(context: SinkContext) -> HostedSink:
    """Writes to MLflow."""
    context = replace(context, environ={**_MLFLOW, **context.environ})
    return HostedSink(context, "tunevane_tracker.sinks.mlflow:MlflowWriter", needs="mlflow")
