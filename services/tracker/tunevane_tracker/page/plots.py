"""The curves of a run's page."""

from __future__ import annotations

import math

from tunevane.core.explanation import short_names
from tunevane_tracker.page.chart import Chart, Series
from tunevane_tracker.page.outcome import curve, deciding_metric, kept_epoch, metric_names, within_epochs
from tunevane_tracker.state import RunState

FIRST_CURVES = 8
"""Pictures shown at once; further ones are folded away."""

MAX_CURVES = 48
"""More pictures than this help nobody; the table has every metric."""


def deciding_chart(state: RunState) -> str:
    """Draws the metric that decides, large; nothing before it was measured at an epoch end."""
    name = deciding_metric(state)
    if len(curve(state, name)) < 2:
        return ""
    names = short_names(metric_names(state))
    chart = _metric(state, name, f"{names[name]} by epoch", "deciding", 460.0, 232.0)
    return f'<figure class="deciding">{chart.svg()}<figcaption>{chart.legend()}</figcaption></figure>'


def small_multiples(state: RunState) -> str:
    """Draws the losses, and every metric but the one that decides."""
    names = metric_names(state)
    shorts = short_names(names)
    figures = _losses(state)
    for position, name in enumerate(names[1:MAX_CURVES]):
        if curve(state, name):
            figures.append(_metric(state, name, shorts[name], f"m{position}", 360.0, 180.0).figure(legend=False))
    if not figures:
        return ""
    first, rest = figures[:FIRST_CURVES], figures[FIRST_CURVES:]
    more = ""
    if rest:
        more = f'<details><summary>{len(rest)} more curves</summary><div class="curves">{"".join(rest)}</div></details>'
    return f'<div class="curves">{"".join(first)}</div>{more}'


def _losses(state: RunState) -> list[str]:
    series = []
    by_step = [(float(point.step), point.value) for point in state.losses.all()]
    epochs = sorted(state.epochs.values(), key=lambda epoch: epoch.number)
    if by_step:
        series.append(Series("training by step", "s0 thin", by_step))
    if epochs:
        means = [(float(epoch.step), epoch.train_loss) for epoch in epochs]
        series.append(Series("training", "s0", means, dots=True))
    validation = [(float(epoch.step), epoch.val_loss) for epoch in epochs if epoch.val_loss is not None]
    if validation:
        series.append(Series("validation", "s1", validation, dots=True))
    return [Chart("loss", "Loss", "step", series, height=180.0).figure()] if series else []


def _metric(state: RunState, name: str, title: str, key: str, width: float, height: float) -> Chart:
    points = curve(state, name)
    best = kept_epoch(state)
    kept = next(((x, y) for x, y in points if best and x == best), None)
    before = state.before.get(name)
    band, level = [], 0.95
    if before is not None:
        found = [(epoch, each[name]) for epoch, each in sorted(state.intervals_by_epoch.items()) if name in each]
        # Of the metrics, only gains that are not normalised pass 1.
        top = math.inf if "dcg" in name.replace("ndcg", "") else max(1.0, *(y for _, y in points))
        band = [(float(epoch), before + each.low, min(before + each.high, top)) for epoch, each in found]
        level = found[-1][1].confidence if found else level
        # Nothing has changed before the first epoch, so the interval begins there with no width.
        band = [(0.0, before, before), *band] if band else []
    series = [Series(title, "s0", points, dots=True)]
    if len(steps := within_epochs(state, name)) > 1:
        series.insert(0, Series("within epochs", "s0 thin", steps))
    return Chart(key, title, "epoch", series, before, band, f"{level:.0%} interval", kept, width, height)
