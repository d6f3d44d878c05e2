"""What every alert sees, minute by minute, when it should fire and when not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

RUN = {"run_id": "u1"}
AT = {"instance": "a:1", "job": "tunevane"}
RUNNING = 'tunevane_run_state{run_id="u1",state="running"}'
QUEUE = 'tunevane_evaluation_queue_depth{instance="a:1",job="tunevane"}'
SCORE = 'tunevane_run_retrieval_score{run_id="u1",metric="ndcg",k="10",phase="%s"}'
CHANGE = 'tunevane_run_retrieval_change{run_id="u1",metric="ndcg",k="10",phase="current",bound="high"}'
SINK = '{sink="wandb"}'


def at(name: str, **labels: str) -> str:
    """Writes a series of one instance."""
    inside = ",".join(f'{key}="{value}"' for key, value in ({**AT, **labels}).items())
    return f"{name}{{{inside}}}"


@dataclass(frozen=True)
class Case:
    """What an alert sees, minute by minute, and when it fires."""

    alert: str
    """Its name."""

    series: Mapping[str, str]
    """Values by series, in promtool's notation."""

    silent: str
    """When it does not fire yet."""

    fires: str
    """When it fires."""

    cleared: str
    """When it has stopped."""

    labels: Mapping[str, str]
    """Labels of what fires, besides the rule's own."""

    says: str
    """The summary."""

    note: str = ""
    """What is special, where an alert has several cases."""


def down(service: str, name: str, sentence: str) -> list[Case]:
    about = at("tunevane_build_info", service=service, version="1")
    return [
        Case(
            name,
            {at("up"): "1x10 0x20 1x30", about: "1x10 _x20 1x30"},
            silent="9m",
            fires="20m",
            cleared="40m",
            labels=AT,
            says=sentence,
            note="the target does not answer",
        ),
        Case(
            name,
            {about: "_x20 1x30"},
            silent="1m",
            fires="10m",
            cleared="40m",
            labels={"service": service},
            says=sentence,
            note="it was never there",
        ),
    ]


CASES = [
    Case(
        "RunStalled",
        {
            RUNNING: "1x120",
            # Events until minute 10, then none until minute 80.
            'tunevane_run_last_event_time_seconds{run_id="u1"}': "0+60x10 600x69 4800+60x40",
        },
        silent="42m",
        fires="70m",
        cleared="90m",
        labels=RUN,
        says="Run u1 has been silent for 1h 0m 0s.",
    ),
    Case(
        "LossNotFinite",
        {'tunevane_run_train_loss{run_id="u1"}': "0.5x10 " + "NaN " * 10 + "0.5x20"},
        silent="9m",
        fires="12m",
        cleared="30m",
        labels=RUN,
        says="The loss of run u1 is NaN.",
        note="not a number",
    ),
    Case(
        "LossNotFinite",
        {
            'tunevane_run_val_loss{run_id="u1"}': "0.5x10 " + "Inf " * 10 + "0.5x20",
            'tunevane_run_train_loss{run_id="u1"}': "0.5x40",
        },
        silent="9m",
        fires="12m",
        cleared="30m",
        labels=RUN,
        says="The loss of run u1 is +Inf.",
        note="infinite validation loss",
    ),
    Case(
        "RetrievalRegressed",
        {
            RUNNING: "1x100",
            SCORE % "before": "0.5x100",
            SCORE % "current": "0.499x100",
            CHANGE: "0.01x10 -0.001x30 0.01x60",
        },
        silent="15m",
        fires="25m",
        cleared="60m",
        labels=RUN,
        says="Run u1 retrieves worse than the pre-trained model in 1 of its metrics.",
        note="the whole interval is below zero",
    ),
    Case(
        "RetrievalRegressed",
        {RUNNING: "1x100", SCORE % "before": "0.5x100", SCORE % "current": "0.49x10 0.4x30 0.5x60"},
        silent="15m",
        fires="25m",
        cleared="60m",
        labels=RUN,
        says="Run u1 retrieves worse than the pre-trained model in 1 of its metrics.",
        note="no intervals",
    ),
    Case(
        "RunFailed",
        {'tunevane_run_state{run_id="u1",state="failed"}': "0x10 1x15 stale"},
        silent="9m",
        fires="12m",
        cleared="40m",
        labels={**RUN, "state": "failed"},
        says="Run u1 has failed.",
    ),
    Case(
        "WorkersKeepDying",
        {at("tunevane_trainer_workers_lost_total"): "0x10 0+1x10 10x60"},
        silent="9m",
        fires="20m",
        cleared="75m",
        labels=AT,
        says="The trainer lost 9 workers within half an hour.",
    ),
    Case(
        "RunsWaiting",
        {at("tunevane_trainer_runs", state="pending"): "0x10 3x90 0x20"},
        silent="60m",
        fires="80m",
        cleared="110m",
        labels={**AT, "state": "pending"},
        says="3 runs have been waiting for a worker for over an hour.",
    ),
    Case(
        "EvaluatorQueueGrowing",
        {QUEUE: "0x10 5+1x40 45x60"},
        silent="15m",
        fires="40m",
        cleared="100m",
        labels=AT,
        says="34 evaluations wait at a:1, and they become more.",
    ),
    Case(
        "EvaluationsRefused",
        {at("tunevane_evaluations_total", outcome="refused"): "0x10 1+1x20 21x40"},
        silent="9m",
        fires="25m",
        cleared="60m",
        labels=AT,
        says="The queue of a:1 is full; 10 evaluations were refused.",
    ),
    Case(
        "EvaluationsFailing",
        {
            at("tunevane_evaluations_total", outcome="failed"): "0x10 0+1x30 30x40",
            at("tunevane_evaluations_total", outcome="unavailable"): "0x80",
        },
        silent="9m",
        fires="30m",
        cleared="70m",
        labels=AT,
        says="15 evaluations failed at a:1 within a quarter of an hour.",
    ),
    Case(
        "SinkLagging",
        {f"tunevane_tracker_sink_lag_events{SINK}": "0x10 5000x40 0x60"},
        silent="20m",
        fires="40m",
        cleared="80m",
        labels={"sink": "wandb"},
        says="5000 events have been waiting for wandb for a quarter of an hour.",
    ),
    Case(
        "SinkKeepsDying",
        {f"tunevane_tracker_sink_restarts_total{SINK}": "0x10 0+1x30 30x60"},
        silent="9m",
        fires="45m",
        cleared="90m",
        labels={"sink": "wandb"},
        says="The process of wandb died 26 times within half an hour.",
    ),
    Case(
        "EventsPutAside",
        {f"tunevane_tracker_sink_put_aside_events{SINK}": "0x10 2x100"},
        silent="9m",
        fires="15m",
        cleared="90m",
        labels={"sink": "wandb"},
        says="wandb cannot take 2 events.",
    ),
    Case(
        "EventsInConflict",
        {at("tunevane_tracker_conflicts_total"): "0x10 3x80"},
        silent="9m",
        fires="20m",
        cleared="60m",
        labels=AT,
        says="3 events came again with other content.",
    ),
    Case(
        "JournalDamaged",
        {at("tunevane_tracker_lost_events"): "0x10 25x20 0x30"},
        silent="9m",
        fires="15m",
        cleared="40m",
        labels=AT,
        says="A damaged disk has taken 25 events of a:1.",
    ),
    Case(
        "JournalSlow",
        {
            at("tunevane_tracker_append_seconds_bucket", le="0.25"): "0+60x10 600x30 600+60x60",
            at("tunevane_tracker_append_seconds_bucket", le="1.0"): "0+60x100",
            at("tunevane_tracker_append_seconds_bucket", le="+Inf"): "0+60x100",
        },
        silent="9m",
        fires="35m",
        cleared="70m",
        labels=AT,
        says="Events need 992.5ms to reach the disk of a:1.",
    ),
    Case(
        "MirrorLagging",
        {at("tunevane_trainer_mirror_lag_events"): "0x10 2000x40 0x60"},
        silent="20m",
        fires="40m",
        cleared="80m",
        labels=AT,
        says="The tracker lacks 2000 events that the trainer has.",
    ),
    *down("tracker", "TrackerDown", "A tracker is down, or Prometheus does not reach it."),
    *down("trainer", "TrainerDown", "A trainer is down, or Prometheus does not reach it."),
    *down("evaluator", "EvaluatorDown", "An evaluator is down, or Prometheus does not reach it."),
    Case(
        "ServiceFaults",
        {
            at("grpc_server_handled_total", grpc_service="tunevane.api.x", grpc_code="INTERNAL"): "0x10 2x60",
            at("grpc_server_handled_total", grpc_service="tunevane.api.x", grpc_code="OK"): "0+9x70",
        },
        silent="9m",
        fires="15m",
        cleared="50m",
        labels=AT,
        says="a:1 answered 2 calls with a fault of its own.",
    ),
]


def healthy() -> dict[str, str]:
    """Writes two hours in which all is well, though not everything is still."""
    series = {
        RUNNING: "1x120",
        'tunevane_run_state{run_id="u1",state="failed"}': "0x120",
        'tunevane_run_last_event_time_seconds{run_id="u1"}': "0+60x120",
        'tunevane_run_train_loss{run_id="u1"}': "9-0.05x120",
        'tunevane_run_val_loss{run_id="u1"}': "9-0.04x120",
        SCORE % "before": "0.5x120",
        SCORE % "current": "0.5+0.001x120",
        CHANGE: "0.01x120",
        QUEUE: "0 3 9 2 0 1 0x115",
        at("tunevane_trainer_runs", state="pending"): "0 2 1 0x120",
        at("tunevane_trainer_workers_lost_total"): "0x60 1x60",
        at("tunevane_trainer_mirror_lag_events"): "0 900 3000 0x120",
        at("tunevane_evaluations_total", outcome="computed"): "0+2x120",
        at("tunevane_evaluations_total", outcome="failed"): "0x60 1x60",
        at("tunevane_evaluations_total", outcome="refused"): "0x120",
        f"tunevane_tracker_sink_lag_events{SINK}": "0 5000 20 0x120",
        f"tunevane_tracker_sink_restarts_total{SINK}": "0x60 1x60",
        f"tunevane_tracker_sink_put_aside_events{SINK}": "0x120",
        at("tunevane_tracker_conflicts_total"): "0x120",
        at("tunevane_tracker_lost_events"): "0x120",
        at("tunevane_tracker_append_seconds_bucket", le="0.25"): "0+60x120",
        at("tunevane_tracker_append_seconds_bucket", le="+Inf"): "0+60x120",
        at("grpc_server_handled_total", grpc_service="tunevane.api.x", grpc_code="NOT_FOUND"): "0+1x120",
    }
    for name in ("tracker", "trainer", "evaluator"):
        series[f'up{{job="{name}"}}'] = "1x120"
        series[f'tunevane_build_info{{job="{name}",service="{name}"}}'] = "1x120"
    return series
