"""Draws the pictures of `docs/decisions.md` from the rules themselves, so that they cannot say anything else.

python docs/pictures.py            writes docs/pictures/*.svg
python docs/pictures.py --check    exits with 1 and names the pictures that differ
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tunevane.core.decisions import BestModelRule, BestModelState, EarlyStoppingRule, EarlyStoppingState
from tunevane.core.quality import Measurement, estimate

TARGET = Path(__file__).resolve().parent / "pictures"

WIDTH, HEIGHT = 640, 300
LEFT, RIGHT, TOP, BOTTOM = 56, 20, 40, 44

# Both themes of the docs show pictures on this ground.
STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #43403a } .title { font-weight: 600 } .small { font-size: 12px }
  .ground { fill: #fbfaf7 } .axis { stroke: #b9b4a8; stroke-width: 1 }
  .line { fill: none; stroke: #0f766e; stroke-width: 2.5 } .hidden { opacity: .3 } .dot { fill: #0f766e }
  .truth { fill: none; stroke: #43403a; stroke-width: 1.5; stroke-dasharray: 2 4 } .measured { fill: #8f897d }
  .kept { fill: #d97706 } .red { fill: #b91c1c } .stop { stroke: #b91c1c; stroke-width: 2; stroke-dasharray: 5 4 }
  .box { fill: #e6f2f0; stroke: #0f766e } .busy { fill: #fdeed8; stroke: #d97706 }
"""

SEED = 34
"""A draw in which luck misleads."""

SERIES = (0.303, 0.345, 0.353, 0.349, 0.366, 0.364, 0.361, 0.372, 0.370)


class Plot:
    """A picture that grows element by element."""

    def __init__(self, title: str, described: str, epochs: int, low: float, high: float, height: int = HEIGHT) -> None:
        self.epochs, self.low, self.high, self.height = epochs, low, high, height
        self.parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
            f"<title>{title}</title><desc>{described}</desc><style>{STYLE}</style>",
            f'<rect class="ground" width="{WIDTH}" height="{height}" rx="8"/>',
            f'<text class="title" x="{LEFT - 32}" y="24">{title}</text>',
        ]

    def x(self, epoch: float) -> float:
        """Places an epoch."""
        return LEFT + (epoch - 0.5) / self.epochs * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        """Places a value."""
        return self.height - BOTTOM - (value - self.low) / (self.high - self.low) * (self.height - BOTTOM - TOP)

    def axes(self) -> None:
        """Draws the axis of epochs, and two values."""
        base = self.height - BOTTOM
        self.parts.append(f'<path class="axis" d="M{LEFT - 8} {base}H{WIDTH - RIGHT}"/>')
        for epoch in range(1, self.epochs + 1):
            self.text(self.x(epoch), base + 18, str(epoch), "middle")
        self.text(WIDTH - RIGHT, base + 36, "epoch", "end", "small")
        for value in (self.low, self.high):
            self.text(LEFT - 12, self.y(value) + 4, f"{value:.2f}", "end", "small")

    def text(self, x: float, y: float, words: str, anchor: str = "start", kind: str = "") -> None:
        """Writes words."""
        self.parts.append(f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{words}</text>')

    def line(self, values: Sequence[float], kind: str = "line", first: int = 1) -> None:
        """Draws values, one per epoch."""
        points = " ".join(f"{self.x(n):.1f},{self.y(value):.1f}" for n, value in enumerate(values, first))
        self.parts.append(f'<polyline class="{kind}" points="{points}"/>')

    def dot(self, epoch: float, value: float, kind: str = "dot", size: float = 4.5) -> None:
        """Marks a value."""
        self.parts.append(f'<circle class="{kind}" cx="{self.x(epoch):.1f}" cy="{self.y(value):.1f}" r="{size}"/>')

    def box(self, first: float, last: float, top: float, kind: str, words: str) -> None:
        """Draws a bar from one moment to another, with words on it."""
        left, right = self.x(first), self.x(last)
        self.parts.append(
            f'<rect class="{kind}" x="{left:.1f}" y="{top}" width="{right - left:.1f}" height="30" rx="5"/>'
        )
        self.text((left + right) / 2, top + 20, words, "middle", "small")

    def stop(self, epoch: int, words: str) -> None:
        """Draws where training ends."""
        x = self.x(epoch) + 24
        self.parts.append(f'<path class="stop" d="M{x:.1f} {TOP}V{self.height - BOTTOM}"/>')
        self.text(x + 6, TOP + 12, words, "start", "small red")

    def svg(self) -> str:
        """Returns the picture."""
        return "\n".join([*self.parts, "</svg>"]) + "\n"


def _stops(rule: EarlyStoppingRule) -> tuple[int, list[int]]:
    """Plays the series; returns the last epoch that is trained, and the epochs that improved."""
    state, improved = EarlyStoppingState(), []
    for epoch, value in enumerate(SERIES, 1):
        state, conclusion = rule.step(state, value, None)
        if conclusion.verdict == "improved":
            improved.append(epoch)
        if conclusion.verdict == "stop":
            return epoch, improved
    return len(SERIES), improved


def _kept(last: int) -> int:
    state = BestModelState()
    for epoch, value in enumerate(SERIES[:last], 1):
        state, _ = BestModelRule("max").step(state, epoch, value)
    return state.epoch


def stopping(title: str, rule: EarlyStoppingRule) -> str:
    """Draws where a rule ends training, and which epoch is kept."""
    last, improved = _stops(rule)
    kept = _kept(last)
    told = f"Training ends after epoch {last}; epoch {kept} is kept."
    plot = Plot(title, told, len(SERIES), 0.29, 0.39)
    plot.axes()
    if rule.baseline is not None:
        plot.line([rule.baseline] * len(SERIES), "truth")
        plot.text(plot.x(1), plot.y(rule.baseline) - 6, f"baseline {rule.baseline:g}", "middle", "small")
    plot.line(SERIES[:last])
    plot.line(SERIES[last - 1 :], "line hidden", first=last)
    waited = 0
    for epoch, value in enumerate(SERIES[:last], 1):
        plot.dot(epoch, value, "kept" if epoch == kept else "dot", 6 if epoch == kept else 4.5)
        if epoch in improved:
            waited = 0
        else:
            waited += 1
            plot.text(plot.x(epoch), plot.y(value) + 22, f"{waited} of {rule.patience}", "middle", "small red")
    plot.text(plot.x(kept), plot.y(SERIES[kept - 1]) - 12, "kept", "middle", "small")
    if last < len(SERIES):
        plot.stop(last, "training ends")
    return plot.svg()


def noise() -> str:
    """Draws measured means, the estimate from every query's value, and the truth that both are about."""
    random = np.random.default_rng(SEED)
    truth = np.array([0.30, 0.36, 0.40, 0.42, 0.43, 0.43, 0.42, 0.41])
    values = truth[:, None] + 0.25 * random.standard_normal(50) + 0.25 * random.standard_normal((8, 50))
    found = estimate([Measurement(n, row.mean(), row) for n, row in enumerate(values, 1)], queries=50)
    measured = values.mean(axis=1)
    # What all epochs share matters to no decision, so it is taken out of the picture.
    measured, quality = measured - measured.mean() + truth.mean(), found.quality - found.quality.mean() + truth.mean()
    lucky, chosen, best = int(measured.argmax()) + 1, int(quality.argmax()) + 1, int(truth.argmax()) + 1
    told = (
        f"The highest measured mean is epoch {lucky}, the highest estimate epoch {chosen}; the truth is best at {best}."
    )
    plot = Plot("50 queries: measured means, and what is known", told, 8, 0.25, 0.50)
    plot.axes()
    plot.line(list(truth), "truth")
    plot.line(list(quality))
    for epoch, value in enumerate(measured, 1):
        plot.dot(epoch, value, "red" if epoch == lucky else "measured", 5)
    plot.dot(chosen, quality[chosen - 1], "kept", 6)
    plot.text(plot.x(lucky), plot.y(measured[lucky - 1]) - 12, f"luckiest: epoch {lucky}", "middle", "small red")
    plot.text(plot.x(chosen), plot.y(quality[chosen - 1]) + 24, f"kept: epoch {chosen}", "middle", "small")
    plot.text(plot.x(8), plot.y(truth[-1]) + 22, "truth", "middle", "small")
    return plot.svg()


def schedule() -> str:
    """Draws the moments of an epoch's end and of a run's end."""
    plot = Plot(
        "At each epoch end, and at the end of a run", "Measure, decide, record; select, refine, measure.", 8, 0, 1, 190
    )
    steps = ("train", "measure", "decide", "record")
    for n, words in enumerate(steps):
        plot.box(1 + 1.7 * n, 2.4 + 1.7 * n, 52, "busy" if words == "measure" else "box", words)
        if n:
            plot.text(plot.x(0.85 + 1.7 * n), 72, "→", "middle")
    plot.text(plot.x(1), 100, "again until the epochs are over or a callback says stop, then", "start", "small")
    for n, words in enumerate(("select", "refine", "measure", "artifact")):
        plot.box(1 + 1.7 * n, 2.4 + 1.7 * n, 116, "busy" if words == "measure" else "box", words)
        if n:
            plot.text(plot.x(0.85 + 1.7 * n), 136, "→", "middle")
    return plot.svg()


def lag() -> str:
    """Draws when decisions are applied while the next epoch trains."""
    told = "The decision after epoch e is applied before epoch e + 2 begins."
    plot = Plot("asynchronous=True, max_lag=1", told, 8, 0, 1, 190)
    plot.text(24, 72, "trainer", "start", "small")
    plot.text(24, 116, "evaluator", "start", "small")
    for epoch in range(1, 5):
        plot.box(-0.1 + 1.5 * epoch, 1.3 + 1.5 * epoch, 52, "box", f"epoch {epoch}")
        plot.box(1.35 + 1.5 * epoch, 2.4 + 1.5 * epoch, 96, "busy", f"measure {epoch}")
    for epoch in range(1, 3):
        x = plot.x(-0.15 + 1.5 * (epoch + 2))
        plot.parts.append(f'<path class="stop" d="M{x:.1f} 46V140"/>')
        plot.text(x, 158, f"decision after {epoch}", "middle", "small red")
    return plot.svg()


def pictures() -> dict[str, str]:
    """Draws everything, by file name."""
    return {
        "schedule.svg": schedule(),
        "patience.svg": stopping("EarlyStopping(patience=2)", EarlyStoppingRule("max", 2)),
        "min-delta.svg": stopping("EarlyStopping(patience=2, min_delta=0.02)", EarlyStoppingRule("max", 2, 0.02)),
        "baseline.svg": stopping("EarlyStopping(patience=3, baseline=0.36)", EarlyStoppingRule("max", 3, 0.0, 0.36)),
        "noise.svg": noise(),
        "lag.svg": lag(),
    }


def main() -> int:
    """Runs the command line."""
    drawn = pictures()
    if "--check" not in sys.argv[1:]:
        TARGET.mkdir(exist_ok=True)
        for name, svg in drawn.items():
            (TARGET / name).write_text(svg, encoding="utf-8")
        return 0
    stale = [n for n, svg in drawn.items() if not (TARGET / n).is_file() or (TARGET / n).read_text("utf-8") != svg]
    for name in stale:
        sys.stderr.write(f"docs/pictures/{name} is not what the rules draw: run `make docs`\n")
    return 1 if stale else 0


if __name__ == "__main__":
    raise SystemExit(main())
