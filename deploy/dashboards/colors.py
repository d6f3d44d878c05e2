"""What has which colour, on every dashboard."""

from __future__ import annotations

GREEN, BLUE, ORANGE, RED, PURPLE, GREY, YELLOW, TEAL = (
    "#56A64B",
    "#3274D9",
    "#FF780A",
    "#E02F44",
    "#8F3BB8",
    "#9FA7B3",
    "#E0B400",
    "#2AB7A9",
)
STATE_COLORS = {
    "pending": GREY,
    "running": BLUE,
    "cancelling": YELLOW,
    "succeeded": GREEN,
    "failed": RED,
    "cancelled": ORANGE,
}
PHASE_COLORS = {"before": GREY, "current": BLUE, "best": GREEN, "after": PURPLE}
SERVICE_COLORS = {"trainer": BLUE, "evaluator": ORANGE, "tracker": PURPLE}
STEP_COLORS = {
    "queue": GREY,
    "load": YELLOW,
    "read": TEAL,
    "encode": BLUE,
    "store": ORANGE,
    "search": GREEN,
    "score": PURPLE,
    "verify": "#CA95E5",
    "total": RED,
}
