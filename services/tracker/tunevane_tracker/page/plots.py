"""The curves of a run's page."""

from __future__ import annotations

from tunevane_tracker.page.chart import Chart, Series
from tunevane_tracker.page.listing import deciding_metric
from tunevane_tracker.page.table import short_names
from tunevane_tracker.state import RunState

MAX_CURVES = 24
"""More pictures than this help nobody; the table has every metric."""


def plots(state: RunState) -> str:
    """Draws the losses, and every metric by epoch."""
    figures = [*_losses(state), *_metrics(state)]
    return f'<h2>Curves</h2><div class="curves">{"".join(figures)}</div>' if figures else ""


def _losses(state: RunState) -> list[str]:
    series = []
    by_step = [(float(point.step), point.value) for point in state.losses.all()]
    epochs = sorted(state.epochs.values(), key=lambda epoch: epoch.number)
    if by_step:
        series.append(Series("training", "s0 thin", by_step))
    if epochs:
        means = [(float(epoch.step), epoch.train_loss) for epoch in epochs]
        series.append(Series("training, mean of the epoch", "s0", means, dots=True))
    validation = [(float(epoch.step), epoch.val_loss) for epoch in epochs if epoch.val_loss is not None]
    if validation:
        series.append(Series("validation", "s1", validation, dots=True))
    return [Chart("Loss", "step", series, width=1040.0, height=260.0).figure("wide")] if series else []


def _metrics(state: RunState) -> list[str]:
    names = sorted({name for values in state.by_epoch.values() for name in values})
    monitor = deciding_metric(state)
    # The metric that decides comes first.
    names.sort(key=lambda name: name != monitor)
    shorts = short_names(names)
    return [_metric(state, name, shorts[name]) for name in names[:MAX_CURVES]]


def _metric(state: RunState, name: str, title: str) -> str:
    points = [(float(epoch), values[name]) for epoch, values in sorted(state.by_epoch.items()) if name in values]
    kept = next(((x, y) for x, y in points if x == state.best_epoch), None)
    before = state.before.get(name)
    if before is not None:
        points.insert(0, (0.0, before))
    series = [Series("by epoch", "s0", points, dots=True)]
    return Chart(title, "epoch", series, before, "before", kept).figure()
