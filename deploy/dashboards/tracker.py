"""The dashboard of the tracker's own health: what it stores, how fast, and how far its sinks are behind."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard

from dashboards import services
from dashboards.colors import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, TEAL
from dashboards.parts import Query, board, chart, number, steps

RATE = "[$__rate_interval]"
SECONDS = f"sum by (le) (rate(tunevane_tracker_append_seconds_bucket{RATE}))"
SINK_COLORS = {"prometheus": ORANGE, "wandb": BLUE, "mlflow": TEAL, "tensorboard": PURPLE, "jsonl": GREY}
MODE_COLORS = {"account": GREEN, "anonymous": BLUE, "offline": ORANGE, "off": GREY}


def _glance(made: dashboard.Dashboard) -> None:
    """Adds the row of numbers."""
    made.with_row(dashboard.Row("At a glance"))
    made.with_panel(
        number(
            "Trackers up",
            "Trackers that Prometheus sees.",
            "none",
            Query('count(tunevane_build_info{service="tracker"}) or vector(0)', "up"),
            thresholds=steps((None, RED), (1, GREEN)),
        )
    )
    made.with_panel(
        number(
            "Events lost",
            "Events that a damaged disk has taken and that the trainer has not sent again yet.",
            "none",
            Query("sum(tunevane_tracker_lost_events)", "lost"),
            thresholds=steps((None, GREEN), (1, RED)),
        )
    )
    made.with_panel(
        number(
            "Events a second",
            "Events stored.",
            "cps",
            Query(f"sum(rate(tunevane_tracker_events_total{RATE}))", "events"),
            sparkline=True,
        )
    )
    made.with_panel(
        number(
            "Time to disk, 99 %",
            "Time within which 99 % of the batches are on disk.",
            "s",
            Query(f"histogram_quantile(0.99, {SECONDS})", "99 %"),
            thresholds=steps((None, GREEN), (0.1, ORANGE), (0.25, RED)),
        )
    )
    made.with_panel(
        number(
            "Events waiting",
            "Events that some sink does not have yet.",
            "none",
            Query("sum(tunevane_tracker_sink_lag_events)", "waiting"),
            thresholds=steps((None, GREEN), (1000, ORANGE), (100_000, RED)),
            sparkline=True,
        )
    )
    made.with_panel(
        number(
            "Events put aside",
            "Events that killed a sink three times and will not reach it; the tracker's log names them.",
            "none",
            Query("sum(tunevane_tracker_sink_put_aside_events)", "put aside"),
            thresholds=steps((None, GREEN), (1, RED)),
        )
    )
    made.with_panel(
        number(
            "Runs not shown",
            "Live runs that are left out of /metrics, because there are too many.",
            "none",
            Query("sum(tunevane_tracker_runs_left_out)", "left out"),
            thresholds=steps((None, GREEN), (1, ORANGE)),
        )
    )
    made.with_panel(
        number(
            "Weights & Biases",
            "How it is used: with an account, anonymously, only in files, or not at all.",
            "none",
            Query("tunevane_tracker_wandb_mode == 1", "{{mode}}"),
            named=MODE_COLORS,
            none="not asked yet",
        )
    )


def _events(made: dashboard.Dashboard) -> None:
    """Adds what is stored."""
    made.with_row(dashboard.Row("Events"))
    made.with_panel(
        chart(
            "Events",
            "Events stored; those that came again; and those that came again with other content, which is a fault.",
            "cps",
            Query(f"sum(rate(tunevane_tracker_events_total{RATE}))", "stored"),
            Query(f"sum(rate(tunevane_tracker_duplicates_total{RATE}))", "again"),
            Query(f"sum(rate(tunevane_tracker_conflicts_total{RATE}))", "in conflict"),
            span=8,
            colors={"stored": GREEN, "again": GREY, "in conflict": RED},
            lowest=0,
        )
    )
    made.with_panel(
        chart(
            "Time until a batch is on disk",
            "From its arrival to the acknowledgement.",
            "s",
            *(
                Query(f"histogram_quantile({share}, {SECONDS})", name)
                for share, name in ((0.5, "50 %"), (0.95, "95 %"), (0.99, "99 %"))
            ),
            span=8,
            colors={"50 %": GREEN, "95 %": ORANGE, "99 %": RED},
            lowest=0,
        )
    )
    made.with_panel(
        chart(
            "Behind the trainer",
            "Events that the trainer has and the tracker has not acknowledged, and calls that failed.",
            "none",
            Query("sum(tunevane_trainer_mirror_lag_events)", "events"),
            Query(f"sum(increase(tunevane_trainer_mirror_errors_total{RATE}))", "failed calls"),
            span=8,
            colors={"events": BLUE, "failed calls": RED},
            lowest=0,
        )
    )


def _sinks(made: dashboard.Dashboard) -> None:
    """Adds who lacks what."""
    made.with_row(dashboard.Row("Sinks"))
    made.with_panel(
        chart(
            "Events waiting, by sink",
            "A sink that is away catches up by itself when it is back.",
            "none",
            Query("sum by (sink) (tunevane_tracker_sink_lag_events)", "{{sink}}"),
            span=8,
            colors=SINK_COLORS,
            lowest=0,
        )
    )
    made.with_panel(
        chart(
            "Restarts of sinks",
            "Sinks have processes of their own, which may die without harm.",
            "none",
            Query(f"sum by (sink) (increase(tunevane_tracker_sink_restarts_total{RATE}))", "{{sink}}"),
            span=8,
            colors=SINK_COLORS,
            steps_after=True,
            lowest=0,
        )
    )
    made.with_panel(
        chart(
            "Runs in /metrics",
            "All that run and the newest that ended, as many as the budget of series holds.",
            "none",
            Query("sum(tunevane_tracker_runs_shown)", "shown"),
            Query("sum(tunevane_tracker_runs_left_out)", "left out"),
            span=8,
            colors={"shown": BLUE, "left out": ORANGE},
            steps_after=True,
            lowest=0,
        )
    )


def _calls(made: dashboard.Dashboard) -> None:
    """Adds the tracker's calls."""
    made.with_row(dashboard.Row("Calls"))
    for panel in services.calls("tracker"):
        made.with_panel(panel)


def _process(made: dashboard.Dashboard) -> None:
    """Adds what the tracker uses."""
    made.with_row(dashboard.Row("Process"))
    for panel in services.processes("tracker"):
        made.with_panel(panel)


def build() -> dashboard.Dashboard:
    """Builds the dashboard."""
    made = board(
        "tunevane-tracker",
        "tunevane / Tracker",
        "Is every event stored, and does it reach everybody who wants it?",
        since="6h",
        refresh="30s",
    )
    _glance(made)
    _events(made)
    _sinks(made)
    _calls(made)
    _process(made)
    return made
