"""The few kinds of panels that our dashboards consist of, with one look for all of them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from grafana_foundation_sdk.builders import bargauge, common, dashboard, prometheus, stat, table, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as looks
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from dashboards.colors import BLUE

Chart = timeseries.Panel
Panel = Any
"""Any panel builder; the package's builders have no common class that says what they share."""

DATASOURCE = model.DataSourceRef(type_val="prometheus", uid="${datasource}")


@dataclass(frozen=True)
class Query:
    """One expression of a panel."""

    expr: str
    """PromQL."""

    legend: str = ""
    """Name of its series; `{{label}}` stands for a label's value."""

    table: bool = False
    """Whether only the newest values are asked for, as rows."""


def _targets(panel: Panel, queries: Sequence[Query], *, instant: bool = False) -> None:
    for number, query in enumerate(queries):
        target = prometheus.Dataquery().expr(query.expr).legend_format(query.legend).ref_id(chr(ord("A") + number))
        target.datasource(DATASOURCE)
        if query.table:
            target.instant().format(PromQueryFormat.TABLE)
        elif instant:
            target.instant()
        else:
            target.range()
        panel.with_target(target)


def steps(*pairs: tuple[float | None, str]) -> dashboard.ThresholdsConfig:
    """Makes thresholds from (value from which it holds, colour); the first has no value."""
    return (
        dashboard.ThresholdsConfig()
        .mode(model.ThresholdsMode.ABSOLUTE)
        .steps([model.Threshold(value, color) for value, color in pairs])
    )


def fixed(color: str) -> list[model.DynamicConfigValue]:
    """Makes an override of one series' colour."""
    return [model.DynamicConfigValue("color", {"mode": "fixed", "fixedColor": color})]


def _colored(panel: Panel, colors: Mapping[str, str]) -> None:
    for name, color in colors.items():
        panel.override_by_name(name, fixed(color))


def _placed(panel: Panel, title: str, text: str, unit: str, span: int, height: int) -> None:
    panel.title(title).description(text).datasource(DATASOURCE).span(span).height(height).unit(unit)


def chart(
    title: str,
    text: str,
    unit: str,
    *queries: Query,
    span: int = 12,
    height: int = 8,
    colors: Mapping[str, str] | None = None,
    stacked: bool = False,
    steps_after: bool = False,
    lowest: float | None = None,
    calcs: Sequence[str] = ("lastNotNull", "max"),
) -> Chart:
    """Makes a chart over time, with a table of the series below it."""
    panel = timeseries.Panel()
    _placed(panel, title, text, unit, span, height)
    _targets(panel, queries)
    panel.line_width(2).fill_opacity(30 if stacked else 6).gradient_mode(looks.GraphGradientMode.OPACITY)
    panel.show_points(looks.VisibilityMode.AUTO).point_size(4).axis_border_show(False)
    panel.span_nulls(False)
    panel.line_interpolation(looks.LineInterpolation.STEP_AFTER if steps_after else looks.LineInterpolation.LINEAR)
    panel.color_scheme(dashboard.FieldColor().mode(model.FieldColorModeId.PALETTE_CLASSIC_BY_NAME))
    panel.legend(
        common.VizLegendOptions()
        .show_legend(True)
        .display_mode(looks.LegendDisplayMode.TABLE)
        .placement(looks.LegendPlacement.BOTTOM)
        .calcs(list(calcs))
    )
    panel.tooltip(common.VizTooltipOptions().mode(looks.TooltipDisplayMode.MULTI).sort(looks.SortOrder.DESCENDING))
    if stacked:
        panel.stacking(common.StackingConfig().mode(looks.StackingMode.NORMAL))
    if lowest is not None:
        panel.min(lowest)
    _colored(panel, colors or {})
    return panel


def number(
    title: str,
    text: str,
    unit: str,
    query: Query,
    *,
    span: int = 3,
    thresholds: dashboard.ThresholdsConfig | None = None,
    sparkline: bool = False,
    named: Mapping[str, str] | None = None,
    decimals: int | None = None,
    none: str = "–",
) -> stat.Panel:
    """Makes one large number; with `named`, the name of the series in its colour instead."""
    panel = stat.Panel()
    _placed(panel, title, text, unit, span, 4)
    _targets(panel, [query], instant=not sparkline)
    panel.no_value(none).color_mode(
        looks.BigValueColorMode.BACKGROUND_SOLID if named is not None else looks.BigValueColorMode.VALUE
    )
    panel.graph_mode(looks.BigValueGraphMode.AREA if sparkline else looks.BigValueGraphMode.NONE)
    panel.text_mode(looks.BigValueTextMode.NAME if named is not None else looks.BigValueTextMode.VALUE)
    panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False).fields(""))
    panel.thresholds(steps((None, BLUE)) if thresholds is None else thresholds)
    if decimals is not None:
        panel.decimals(decimals)
    _colored(panel, named or {})
    return panel


def bars(
    title: str,
    text: str,
    unit: str,
    *queries: Query,
    span: int = 12,
    height: int = 8,
    colors: Mapping[str, str] | None = None,
    thresholds: dashboard.ThresholdsConfig | None = None,
) -> bargauge.Panel:
    """Makes one bar a series, for comparing newest values."""
    panel = bargauge.Panel()
    _placed(panel, title, text, unit, span, height)
    _targets(panel, queries, instant=True)
    panel.orientation(looks.VizOrientation.HORIZONTAL).display_mode(looks.BarGaugeDisplayMode.GRADIENT)
    panel.show_unfilled(True).value_mode(looks.BarGaugeValueMode.COLOR)
    panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False).fields(""))
    panel.thresholds(steps((None, BLUE)) if thresholds is None else thresholds)
    _colored(panel, colors or {})
    return panel


def rows(
    title: str,
    text: str,
    *queries: Query,
    span: int = 24,
    height: int = 8,
    transformations: Sequence[tuple[str, Mapping[str, object]]] = (),
    unit: str = "short",
    columns: Mapping[str, Mapping[str, object]] | None = None,
) -> table.Panel:
    """Makes a table of newest values.

    Args:
        title: Of the panel.
        text: What it shows.
        queries: With `table` set.
        span: Width, of 24.
        height: Height in rows of the grid.
        transformations: Names and options, applied in order.
        unit: Of the numbers.
        columns: Properties by the name of a column.

    """
    panel = table.Panel()
    _placed(panel, title, text, unit, span, height)
    _targets(panel, queries)
    panel.show_header(True).cell_height(looks.TableCellHeight.SM).filterable(True)
    for name, options in transformations:
        panel.with_transformation(model.DataTransformerConfig(id_val=name, options=dict(options)))
    for name, properties in (columns or {}).items():
        panel.override_by_name(name, [model.DynamicConfigValue(key, value) for key, value in properties.items()])
    return panel


class _Mark(model.AnnotationQuery):
    """An annotation with what the data source's plugin takes and the package's schema leaves out."""

    def to_json(self) -> dict[str, object]:
        """Adds how a series becomes a mark: its value is the time."""
        return {
            **super().to_json(),
            "titleFormat": "{{verdict}}",
            "textFormat": "{{callback}}",
            "tagKeys": "verdict,callback",
            "useValueForTime": True,
            # Marks that are closer than this become one.
            "step": "10s",
        }


class Marks(dashboard.AnnotationQuery):
    """Builds marks on the time axis, one for each decision; the query's values are times in milliseconds."""

    def __init__(self, name: str, expr: str, color: str) -> None:
        """Args: the name of their switch, the query, and their colour."""
        self._internal = _Mark()
        self.name(name).datasource(DATASOURCE).enable(True).icon_color(color).expr(expr)


def variable(
    name: str,
    label: str,
    text: str,
    values: str,
    *,
    several: bool = False,
    sort: model.VariableSort = model.VariableSort.ALPHABETICAL_ASC,
) -> dashboard.QueryVariable:
    """Makes a drop-down of a label's values; with `several`, all of them may be chosen at once, and are."""
    made = dashboard.QueryVariable(name).label(label).description(text).datasource(DATASOURCE)
    made.query({"query": values, "refId": "StandardVariableQuery"}).sort(sort)
    made.refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
    if several:
        made.multi(True).include_all(True).current(model.VariableOption(True, ["All"], ["$__all"]))
    return made


def board(uid: str, title: str, text: str, *, since: str, refresh: str) -> dashboard.Dashboard:
    """Begins a dashboard with a variable for the data source and links to the others."""
    made = dashboard.Dashboard(title).uid(uid).description(text).tags(["tunevane"]).refresh(refresh)
    made.time(f"now-{since}", "now").timezone("browser").editable().tooltip(model.DashboardCursorSync.CROSSHAIR)
    made.annotation(
        dashboard.AnnotationQuery()
        .name("Annotations & Alerts")
        .datasource(model.DataSourceRef(type_val="grafana", uid="-- Grafana --"))
        .enable(True)
        .hide(True)
        .icon_color("rgba(0, 211, 255, 1)")
        .built_in(1)
        .type("dashboard")
    )
    made.with_variable(dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"))
    made.link(
        dashboard.DashboardLink("tunevane")
        .type(model.DashboardLinkType.DASHBOARDS)
        .tags(["tunevane"])
        .icon("external link")
        .tooltip("The other dashboards of tunevane")
        .keep_time(True)
    )
    return made


def written(made: dashboard.Dashboard) -> str:
    """Renders a dashboard as the file that Grafana imports, with numbers for its panels in reading order."""
    content: dict[str, Any] = json.loads(JSONEncoder().encode(made.build()))
    content["id"] = None
    content["version"] = 1
    for identifier, panel in enumerate(content["panels"], 1):
        panel["id"] = identifier
    return json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def expressions(content: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Lists the titles and PromQL of everything that a rendered dashboard asks, its marks and drop-downs included."""
    found = [
        (str(panel["title"]), str(target["expr"])) for panel in content["panels"] for target in panel.get("targets", ())
    ]
    found += [(str(each["name"]), str(each["expr"])) for each in content["annotations"]["list"] if each.get("expr")]
    for each in content["templating"]["list"]:
        if each["type"] == "query":
            match = re.fullmatch(r"label_values\((.*), \w+\)", each["query"]["query"])
            assert match is not None
            found.append((f"${each['name']}", match[1]))
    return found
