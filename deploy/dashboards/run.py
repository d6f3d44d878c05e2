"""The dashboard of one run: loss, retrieval with its interval, decisions as marks, patience left."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.models import dashboard as model

from dashboards.colors import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, STATE_COLORS, TEAL
from dashboards.parts import Marks, Query, board, chart, number, rows, steps, variable
from dashboards.retrieval import RUN, before_and_after, by_phase


def _glance(made: dashboard.Dashboard) -> None:
    """Adds the row of numbers."""
    made.with_row(dashboard.Row("At a glance"))
    made.with_panel(
        number(
            "State",
            "Where in its life the run is.",
            "short",
            Query(f"tunevane_run_state{{{RUN}}} == 1", "{{state}}"),
            named=STATE_COLORS,
        )
    )
    made.with_panel(
        number(
            "Progress",
            "Epochs begun, of those planned. Early stopping may end a run before all of them.",
            "percentunit",
            Query(f"tunevane_run_epoch{{{RUN}}} / tunevane_run_epochs_planned{{{RUN}}}", "progress"),
            thresholds=steps((None, BLUE), (1.0, GREEN)),
            decimals=0,
        )
    )
    made.with_panel(number("Epoch", "Epoch under way, from 1.", "none", Query(f"tunevane_run_epoch{{{RUN}}}", "epoch")))
    made.with_panel(
        number(
            "Best epoch",
            "Epoch whose weights are kept as the best; 0 before any.",
            "none",
            Query(f"tunevane_run_best_epoch{{{RUN}}}", "best epoch"),
            thresholds=steps((None, GREY), (1, GREEN)),
        )
    )
    made.with_panel(
        number(
            "Patience left",
            "Epochs that may still pass without improvement before training stops; empty without early stopping.",
            "none",
            Query(f"tunevane_run_early_stop_patience_left{{{RUN}}}", "patience left"),
            thresholds=steps((None, RED), (1, ORANGE), (2, GREEN)),
            none="no early stopping",
        )
    )
    made.with_panel(
        number(
            "Speed",
            "Training items a second.",
            "suffix: items/s",
            Query(f"tunevane_run_items_per_second{{{RUN}}}", "speed"),
            sparkline=True,
        )
    )
    made.with_panel(
        number(
            "Last sign of life",
            "Time since the newest event. A run that is silent for half an hour counts as stalled.",
            "s",
            Query(f"time() - tunevane_run_last_event_time_seconds{{{RUN}}}", "silent for"),
            thresholds=steps((None, GREEN), (600, ORANGE), (1800, RED)),
            decimals=0,
        )
    )
    made.with_panel(
        number(
            "Restarts",
            "Times that the run was resumed after it had lost its worker.",
            "none",
            Query(f"tunevane_run_restarts_total{{{RUN}}}", "restarts"),
            thresholds=steps((None, GREEN), (1, ORANGE), (3, RED)),
        )
    )


def _loss(made: dashboard.Dashboard) -> None:
    """Adds losses and the learning rate."""
    made.with_row(dashboard.Row("Loss"))
    made.with_panel(
        chart(
            "Loss",
            "Training loss since the last report, and the loss over the evaluation data at epoch ends.",
            "short",
            Query(f"tunevane_run_train_loss{{{RUN}}}", "train"),
            Query(f"tunevane_run_val_loss{{{RUN}}}", "validation"),
            span=16,
            height=9,
            colors={"train": BLUE, "validation": ORANGE},
            calcs=("lastNotNull", "min"),
        ).decimals(4)
    )
    made.with_panel(
        chart(
            "Learning rate",
            "Of the first parameter group.",
            "sci",
            Query(f"tunevane_run_learning_rate{{{RUN}}}", "learning rate"),
            span=8,
            height=9,
            colors={"learning rate": TEAL},
        )
    )


def _retrieval(made: dashboard.Dashboard) -> None:
    """Adds a chart for each metric."""
    made.with_row(dashboard.Row("Retrieval"))
    made.with_panel(by_phase())


def _decisions(made: dashboard.Dashboard) -> None:
    """Adds what was decided, and when."""
    made.with_row(dashboard.Row("Decisions"))
    made.with_panel(
        chart(
            "Epochs and patience",
            "How far training is, which epoch is kept, and how many more may pass without improvement.",
            "none",
            Query(f"tunevane_run_epoch{{{RUN}}}", "epoch"),
            Query(f"tunevane_run_best_epoch{{{RUN}}}", "best epoch"),
            Query(f"tunevane_run_early_stop_patience_left{{{RUN}}}", "patience left"),
            colors={"epoch": BLUE, "best epoch": GREEN, "patience left": ORANGE},
            steps_after=True,
            lowest=0,
            calcs=("lastNotNull",),
        ).decimals(0)
    )
    made.with_panel(
        rows(
            "Newest verdicts",
            "When each callback last came to each verdict.",
            Query(f"sort_desc(1000 * tunevane_run_last_decision_time_seconds{{{RUN}}})", table=True),
            span=12,
            unit="dateTimeAsIso",
            transformations=[
                (
                    "organize",
                    {
                        "excludeByName": {"Time": True, "instance": True, "job": True, "run_id": True},
                        "indexByName": {"verdict": 0, "callback": 1, "Value": 2},
                        "renameByName": {"verdict": "Verdict", "callback": "Callback", "Value": "When"},
                    },
                )
            ],
        )
    )


def _training(made: dashboard.Dashboard) -> None:
    """Adds how training goes on."""
    made.with_row(dashboard.Row("Training"))
    made.with_panel(
        chart(
            "Optimizer steps",
            "Steps a second, as Prometheus saw them.",
            "suffix: steps/s",
            Query(f"rate(tunevane_run_train_steps_total{{{RUN}}}[$__rate_interval])", "steps"),
            span=8,
            colors={"steps": BLUE},
            lowest=0,
        )
    )
    made.with_panel(
        chart(
            "Checkpoints",
            "Weights stored so far: `resume` holds what training needs to go on, `model` the weights only.",
            "none",
            Query(f"tunevane_run_checkpoints_total{{{RUN}}}", "{{reason}}"),
            span=8,
            colors={"resume": TEAL, "model": PURPLE},
            steps_after=True,
            lowest=0,
            calcs=("lastNotNull",),
        )
    )
    made.with_panel(
        rows(
            "About the run",
            "What was asked for.",
            Query(f"tunevane_run_info{{{RUN}}}", table=True),
            span=8,
            transformations=[
                (
                    "organize",
                    {
                        "excludeByName": {"Time": True, "Value": True, "instance": True, "job": True, "__name__": True},
                        "renameByName": {"loss_fn": "loss", "run_id": "unique id", "dataset": "data set"},
                    },
                ),
                ("transpose", {"firstFieldName": "what", "restFieldsName": ""}),
            ],
        )
    )


def build() -> dashboard.Dashboard:
    """Builds the dashboard."""
    made = board(
        "tunevane-run",
        "tunevane / Run",
        "One fine-tuning: is it learning, does it retrieve better, and what has been decided?",
        since="3h",
        refresh="15s",
    )
    made.with_variable(variable("run", "Run", "Unique id of the run.", "label_values(tunevane_run_info, run_id)"))
    scores = f"tunevane_run_retrieval_score{{{RUN}}}"
    made.with_variable(
        variable("metric", "Metric", "Retrieval metrics to show.", f"label_values({scores}, metric)", several=True)
    )
    made.with_variable(
        variable(
            "k",
            "Cut-off",
            "Results that are looked at, where a metric says so, as in ndcg@10.",
            f"label_values({scores}, k)",
            sort=model.VariableSort.NUMERICAL_DESC,
        )
    )
    for verdict, color in (("improved", GREEN), ("not improved", ORANGE), ("stop", RED)):
        made.annotation(
            Marks(
                f"Verdict: {verdict}",
                f'1000 * tunevane_run_last_decision_time_seconds{{{RUN}, verdict="{verdict}"}}',
                color,
            )
        )

    _glance(made)
    _loss(made)
    _retrieval(made)
    before_and_after(made)
    _decisions(made)
    _training(made)
    return made
