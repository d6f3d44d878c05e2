"""What all pages share: escaping, formats, the frame and the style."""

from __future__ import annotations

import html
import math
from datetime import UTC, datetime
from importlib.resources import files

from tunevane_tracker.state import Status

STYLE = (files(__package__) / "style.css").read_text(encoding="utf-8")

LABELS: dict[Status, str] = {
    "pending": "Waiting",
    "running": "Running",
    "succeeded": "Succeeded",
    "failed": "Failed",
    "cancelled": "Cancelled",
}


def escape(value: object) -> str:
    """Makes text safe for content and attributes."""
    return html.escape(str(value), quote=True)


def number(value: float | None, digits: int = 4) -> str:
    """Formats a value with significant digits; a dash stands for none."""
    if value is None:
        return "–"
    if not math.isfinite(value):
        return {"nan": "NaN", "inf": "∞", "-inf": "−∞"}[str(value)]
    text = f"{value:.{digits}f}" if 1e-3 <= abs(value) < 1e5 or value == 0 else f"{value:.{digits}g}"
    return text.replace("-", "−")


def signed(value: float) -> str:
    """Formats a difference, always with its sign."""
    return ("+" if value > 0 else "±" if value == 0 else "") + number(value)


def duration(seconds: float) -> str:
    """Formats a length of time, two units at most."""
    whole = max(0, int(seconds))
    days, rest = divmod(whole, 86400)
    hours, rest = divmod(rest, 3600)
    minutes, secs = divmod(rest, 60)
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (secs, "s")]
    shown = [f"{count} {unit}" for count, unit in parts if count]
    return " ".join(shown[:2]) or "0 s"


def moment(seconds: float) -> str:
    """Formats a point in time, UTC, readable by machines too."""
    try:
        when = datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, OSError, ValueError):
        return "–"
    return f'<time datetime="{when:%Y-%m-%dT%H:%M:%SZ}">{when:%Y-%m-%d %H:%M} UTC</time>'


def pill(status: Status) -> str:
    """Shows a state."""
    return f'<span class="pill {status}">{LABELS[status]}</span>'


def document(title: str, body: str, *, refresh_seconds: int | None = None) -> str:
    """Puts content, which is HTML already, into the frame of a page."""
    refresh = "" if refresh_seconds is None else f'<meta http-equiv="refresh" content="{refresh_seconds}">'
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta name="color-scheme" content="light dark">{refresh}<title>{escape(title)} · tunevane</title>'
        f"<style>{STYLE}</style></head><body>"
        '<header class="bar"><a class="brand" href="/runs"><svg viewBox="0 0 24 24" aria-hidden="true">'
        '<path d="M3 9h11a3 3 0 1 0-3-3M3 14h15a3 3 0 1 1-3 3M3 19h7"/></svg>tunevane</a></header>'
        f"<main>{body}</main></body></html>"
    )
