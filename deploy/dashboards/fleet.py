"""The dashboard of everything that runs: runs by state, the evaluator's queue and steps, what is remembered."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard

from dashboards import services
from dashboards.colors import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, STATE_COLORS, STEP_COLORS, TEAL, YELLOW
from dashboards.parts import Query, board, chart, number, rows, steps

OUTCOME_COLORS = {
    "computed": GREEN,
    "joined": TEAL,
    "remembered": BLUE,
    "refused": ORANGE,
    "missing": GREY,
    "invalid": YELLOW,
    "failed": RED,
    "unavailable": PURPLE,
    "cancelled": GREY,
}
RATE = "[$__rate_interval]"
HITS = f"sum by (cache) (rate(tunevane_evaluation_cache_hits_total{RATE}))"
MISSES = f"sum by (cache) (rate(tunevane_evaluation_cache_misses_total{RATE}))"


def _runs(state: str) -> Query:
    return Query(f'sum(tunevane_trainer_runs{{state="{state}"}})', state)


def _glance(made: dashboard.Dashboard) -> None:
    """Adds the row of numbers."""
    made.with_row(dashboard.Row("At a glance"))
    made.with_panel(
        number(
            "Alerts firing",
            "tunevane's alerts that fire now.",
            "none",
            Query('count(ALERTS{alertstate="firing", product="tunevane"}) or vector(0)', "alerts"),
            thresholds=steps((None, GREEN), (1, RED)),
        )
    )
    made.with_panel(number("Running", "Runs that train now.", "none", _runs("running"), sparkline=True))
    made.with_panel(
        number(
            "Waiting",
            "Runs that wait for a worker.",
            "none",
            _runs("pending"),
            thresholds=steps((None, GREEN), (1, ORANGE), (20, RED)),
            sparkline=True,
        )
    )
    made.with_panel(
        number(
            "Succeeded",
            "Runs that ended with an artifact.",
            "none",
            _runs("succeeded"),
            thresholds=steps((None, GREEN)),
        )
    )
    made.with_panel(
        number(
            "Failed",
            "Runs that ended without one, and not on request.",
            "none",
            _runs("failed"),
            thresholds=steps((None, GREEN), (1, RED)),
        )
    )
    made.with_panel(
        number(
            "Workers busy",
            "Workers that live, of those that may.",
            "percentunit",
            Query("sum(tunevane_trainer_workers) / sum(tunevane_trainer_workers_limit)", "busy"),
            thresholds=steps((None, BLUE), (1, ORANGE)),
            decimals=0,
        )
    )
    made.with_panel(
        number(
            "Evaluations waiting",
            "Evaluations in the evaluator's queue.",
            "none",
            Query("sum(tunevane_evaluation_queue_depth)", "waiting"),
            thresholds=steps((None, GREEN), (8, ORANGE), (32, RED)),
            sparkline=True,
        )
    )
    made.with_panel(
        number(
            "Evaluations remembered",
            "Share of the requests that were answered without computing anything, since the evaluators were started.",
            "percentunit",
            Query(
                'sum(tunevane_evaluations_total{outcome=~"remembered|joined"})'
                ' / sum(tunevane_evaluations_total{outcome=~"computed|remembered|joined"})',
                "remembered",
            ),
            decimals=0,
        )
    )


def _live_runs(made: dashboard.Dashboard) -> None:
    """Adds runs and their workers."""
    made.with_row(dashboard.Row("Runs"))
    made.with_panel(
        chart(
            "Runs by state",
            "Every run that the trainer keeps.",
            "none",
            Query("sum by (state) (tunevane_trainer_runs)", "{{state}}"),
            colors=STATE_COLORS,
            stacked=True,
            lowest=0,
            calcs=("lastNotNull",),
        )
    )
    made.with_panel(
        chart(
            "Workers",
            "Workers that live and may live, and how often one had to be replaced.",
            "none",
            Query("sum(tunevane_trainer_workers)", "alive"),
            Query("sum(tunevane_trainer_workers_limit)", "allowed"),
            Query(f"sum(increase(tunevane_trainer_worker_restarts_total{RATE}))", "restarted"),
            Query(f"sum(increase(tunevane_trainer_workers_lost_total{RATE}))", "lost"),
            colors={"alive": BLUE, "allowed": GREY, "restarted": ORANGE, "lost": RED},
            steps_after=True,
            lowest=0,
        )
    )
    made.with_panel(
        rows(
            "Live runs",
            "Runs that train, or ended within a quarter of an hour; a click on one opens its dashboard.",
            Query("tunevane_run_info * on (run_id) group_left (state) (tunevane_run_state == 1)", table=True),
            Query("sum by (run_id) (tunevane_run_epoch)", table=True),
            Query("sum by (run_id) (tunevane_run_best_epoch)", table=True),
            Query("sum by (run_id) (tunevane_run_train_loss)", table=True),
            Query("sum by (run_id) (time() - tunevane_run_last_event_time_seconds)", table=True),
            transformations=[
                ("joinByField", {"byField": "run_id", "mode": "outer"}),
                (
                    "organize",
                    {
                        "excludeByName": {
                            **{f"Time {number}": True for number in range(1, 6)},
                            "Time": True,
                            "Value #A": True,
                            "instance": True,
                            "job": True,
                        },
                        "renameByName": {
                            "Value #B": "epoch",
                            "Value #C": "best epoch",
                            "Value #D": "training loss",
                            "Value #E": "silent for",
                            "loss_fn": "loss",
                            "dataset": "data set",
                        },
                    },
                ),
            ],
            columns={
                "silent for": {"unit": "s", "decimals": 0},
                "training loss": {"decimals": 4},
                "run_id": {
                    "links": [
                        {
                            "title": "Open this run",
                            "url": "/d/tunevane-run?var-run=${__value.raw}&var-datasource=${datasource}",
                        }
                    ]
                },
            },
        )
    )


def _evaluator(made: dashboard.Dashboard) -> None:
    """Adds what the evaluator does."""
    made.with_row(dashboard.Row("Evaluator"))
    made.with_panel(
        chart(
            "Queue",
            "Evaluations under way and waiting; when they reach the limit, further ones are refused and tried again.",
            "none",
            Query("sum(tunevane_evaluation_queue_depth)", "waiting"),
            Query("sum(tunevane_evaluation_running)", "under way"),
            Query("sum(tunevane_evaluation_queue_limit)", "limit"),
            span=8,
            colors={"waiting": ORANGE, "under way": BLUE, "limit": RED},
            lowest=0,
        )
    )
    made.with_panel(
        chart(
            "Requests by how they ended",
            "Remembered and joined ones cost nothing; refused and unavailable ones are repeated by their workers.",
            "reqps",
            Query(f"sum by (outcome) (rate(tunevane_evaluations_total{RATE}))", "{{outcome}}"),
            span=8,
            colors=OUTCOME_COLORS,
            stacked=True,
            lowest=0,
        )
    )
    made.with_panel(
        chart(
            "Throughput",
            "Documents and queries a second, over all evaluators.",
            "cps",
            Query(f"sum(rate(tunevane_evaluation_documents_total{RATE}))", "documents"),
            Query(f"sum(rate(tunevane_evaluation_queries_total{RATE}))", "queries"),
            span=8,
            colors={"documents": BLUE, "queries": PURPLE},
            lowest=0,
        )
    )
    buckets = f"sum by (le, step) (rate(tunevane_evaluation_seconds_bucket{RATE}))"
    made.with_panel(
        chart(
            "Where the time goes",
            "Seconds spent in each step per second of the clock: the height is how busy the evaluator is.",
            "none",
            Query(
                f'sum by (step) (rate(tunevane_evaluation_seconds_sum{{step!~"total|queue"}}{RATE}))',
                "{{step}}",
            ),
            span=8,
            height=9,
            colors=STEP_COLORS,
            stacked=True,
            lowest=0,
        )
    )
    made.with_panel(
        chart(
            "Seconds by step, 95 %",
            "Time within which 95 % of the evaluations are through a step; `queue` is the wait, `total` the whole.",
            "s",
            Query(f"histogram_quantile(0.95, {buckets})", "{{step}}"),
            span=8,
            height=9,
            colors=STEP_COLORS,
            lowest=0,
        )
    )
    made.with_panel(
        chart(
            "Cache hits",
            "Share of the look-ups that found something: whole results, the warm model, its weights, and features, that"
            " is, token ids and scaled images.",
            "percentunit",
            Query(f"{HITS} / ({HITS} + {MISSES} > 0)", "{{cache}}"),
            span=8,
            height=9,
            colors={"result": GREEN, "model": BLUE, "weights": ORANGE, "features": PURPLE},
            lowest=0,
        ).max(1)
    )


def _calls(made: dashboard.Dashboard) -> None:
    """Adds the calls of all services."""
    made.with_row(dashboard.Row("Calls"))
    for panel in services.calls():
        made.with_panel(panel)


def _processes(made: dashboard.Dashboard) -> None:
    """Adds what the services use."""
    made.with_row(dashboard.Row("Processes"))
    for panel in services.processes():
        made.with_panel(panel)


def build() -> dashboard.Dashboard:
    """Builds the dashboard."""
    made = board(
        "tunevane-fleet",
        "tunevane / Fleet",
        "All runs, the workers that train them, and the evaluator that measures them.",
        since="6h",
        refresh="30s",
    )
    _glance(made)
    _live_runs(made)
    _evaluator(made)
    _calls(made)
    _processes(made)
    return made
