"""The panels of one run that tell how well it retrieves, and what fine-tuning has changed."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.models import dashboard as model

from dashboards.colors import BLUE, GREEN, PHASE_COLORS, RED
from dashboards.parts import Chart, Query, bars, chart, rows, steps

RUN = 'run_id="$run"'
METRIC = f'{RUN}, metric=~"$metric", k=~"$k|"'
"""A metric without a cut-off has no label `k`, and is shown whatever `$k` is. Grafana escapes `$metric` for `=~`."""


def _score(phase: str) -> str:
    return f'tunevane_run_retrieval_score{{{METRIC}, phase="{phase}"}}'


def _end(bound: str) -> str:
    """Returns the end of the interval in which the current score lies: that of the change, from where it began."""
    change = f'tunevane_run_retrieval_change{{{METRIC}, phase="current", bound="{bound}"}}'
    return f"{_score('before')} + ignoring(phase, bound) group_right {change}"


def by_phase() -> Chart:
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


def before_and_after(made: dashboard.Dashboard) -> None:
    """Adds what fine-tuning has changed."""
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
