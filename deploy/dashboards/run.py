"""The dashboard of one run: loss, retrieval with its interval, decisions as marks, patience left."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.models import dashboard as model

from dashboards.parts import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PHASE_COLORS,
    PURPLE,
    RED,
    STATE_COLORS,
    TEAL,
    Chart,
    Marks,
    Query,
    bars,
    board,
    chart,
    number,
    rows,
    steps,
    variable,
)

RUN = 'run_id="$run"'
METRIC = f'{RUN}, metric=~"$metric", k=~"$k|"'
"""A metric without a cut-off has no label `k`, and is shown whatever `$k` is. Grafana escapes `$metric` for `=~`."""


def _score(phase: str) -> str:
    return f'tunevane_run_retrieval_score{{{METRIC}, phase="{phase}"}}'


def _end(bound: str) -> str:
    """Returns the end of the interval in which the current score lies: that of the change, from where it began."""
    change = f'tunevane_run_retrieval_change{{{METRIC}, phase="current", bound="{bound}"}}'
    return f"{_score('before')} + ignoring(phase, bound) group_right {change}"


def retrieval() -> Chart:
    """Makes the chart of one metric: before, current and best, with the interval as a band."""
    panel = chart(
        "$metric",
        "Score of the pre-trained model, of the newest epoch and of the best one. The band is the interval in which the"
        " newest score lies, from paired bootstrap samples of the queries: while `before` is inside it, fine-tuning has"
        " not changed this metric beyond doubt.",
        "short",
        Query(_score("before"), "before"),
        Query(_score("current"), "current"),
        Query(_score("best"), "best"),
        Query(_score("after"), "after"),
        Query(_end("low"), "interval, low"),
        Query(_end("high"), "interval, high"),
        height=10,
        colors=PHASE_COLORS,
        calcs=("lastNotNull",),
    )
    panel.decimals(4).repeat("metric").repeat_direction("h").max_per_row(2)
    hidden = [
        model.DynamicConfigValue("custom.lineWidth", 0),
        model.DynamicConfigValue("custom.showPoints", "never"),
        model.DynamicConfigValue("color", {"mode": "fixed", "fixedColor": BLUE}),
        model.DynamicConfigValue("custom.hideFrom", {"legend": True, "tooltip": False, "viz": False}),
    ]
    panel.override_by_name("interval, low", [*hidden, model.DynamicConfigValue("custom.fillOpacity", 0)])
    panel.override_by_name(
        "interval, high",
        [
            *hidden,
            model.DynamicConfigValue("custom.fillOpacity", 18),
            model.DynamicConfigValue("custom.fillBelowTo", "interval, low"),
        ],
    )
    dashed = {"fill": "dash", "dash": [8, 6]}
    panel.override_by_name("before", [model.DynamicConfigValue("custom.lineStyle", dashed)])
    return panel


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

    made.with_row(dashboard.Row("Retrieval"))
    made.with_panel(retrieval())

    made.with_row(dashboard.Row("Before and after"))
    made.with_panel(
        bars(
            "Change since before fine-tuning",
            "Newest score less the score of the pre-trained model, every metric.",
            "short",
            Query(
                f'tunevane_run_retrieval_score{{{RUN}, phase="current"}}'
                f' - ignoring(phase) tunevane_run_retrieval_score{{{RUN}, phase="before"}}',
                "{{metric}} {{k}}",
            ),
            height=10,
            thresholds=steps((None, RED), (0, GREEN)),
        ).decimals(4)
    )
    made.with_panel(
        rows(
            "Scores by phase",
            "Every metric before fine-tuning, at the newest epoch, at the best epoch, and of the artifact.",
            Query(
                # `metric@k` as users write it, or just `metric` where there is no cut-off.
                f'label_replace(label_join(tunevane_run_retrieval_score{{{RUN}}}, "score", "@", "metric", "k"),'
                ' "score", "$1", "score", "(.*)@")',
                table=True,
            ),
            span=12,
            height=10,
            transformations=[
                (
                    "groupingToMatrix",
                    {"columnField": "phase", "rowField": "score", "valueField": "Value", "emptyValue": "null"},
                )
            ],
        ).decimals(4)
    )

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
    return made
