"""What all pages share: escaping, formats, small pieces."""

from __future__ import annotations

import html
import re
from datetime import UTC, datetime

from tunevane.core import numbers
from tunevane_tracker.state import Status

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


def foreign(value: object) -> str:
    """Shows text that people wrote, in its own direction, whatever surrounds it."""
    return f'<bdi dir="auto">{escape(value)}</bdi>'


_MINUS = re.compile(r"(?<![\w.-])-(?=[\d∞])|(?<=\de)-(?=\d)")
"""The minus of a number or of its exponent, and no hyphen."""


def typographic(text: str) -> str:
    """Writes the minus of numbers as long as their plus."""
    return _MINUS.sub("−", text)


def number(value: float | None) -> str:
    """Formats a value with four significant digits; a dash stands for none."""
    return typographic(numbers.number(value))


def change(before: float | None, after: float | None) -> tuple[str, str, str]:
    """Formats two values and the change between them with the same decimals."""
    first, second, third = (typographic(each) for each in numbers.together(before, after))
    return first, second, third


def percent(before: float | None, after: float | None) -> str:
    """Formats a change relative to the value before; empty where that says nothing."""
    if before is None or after is None or before <= 0 or not 0 < abs(after - before) < 1e3 * before:
        return ""
    return typographic(f"{100.0 * (after - before) / before:+.0f} %")


def look(before: float | None, after: float | None) -> str:
    """Names the class of a change: `good`, `bad` or `soft`; retrieval metrics are better when larger."""
    if before is None or after is None or before == after:
        return "soft"
    return "good" if after > before else "bad"


def duration(seconds: float) -> str:
    """Formats a length of time, two units at most."""
    whole = max(0, int(seconds))
    days, rest = divmod(whole, 86400)
    hours, rest = divmod(rest, 3600)
    minutes, secs = divmod(rest, 60)
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (secs, "s")]
    shown = [f"{count} {unit}" for count, unit in parts if count]
    return " ".join(shown[:2]) or "0 s"


def moment(seconds: float, *, zone: bool = True) -> str:
    """Formats a point in time, UTC, readable by machines too; `zone` says so."""
    try:
        when = datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, OSError, ValueError):
        return "–"
    return f'<time datetime="{when:%Y-%m-%dT%H:%M:%SZ}">{when:%Y-%m-%d %H:%M}{" UTC" if zone else ""}</time>'


def pill(status: Status) -> str:
    """Shows a state."""
    return f'<span class="pill {status}">{LABELS[status]}</span>'


def scrolling(label: str, content: str, css_class: str = "card") -> str:
    """Lets wide content scroll within the page, by keyboard too."""
    return f'<div class="{css_class} scroll" role="region" aria-label="{escape(label)}" tabindex="0">{content}</div>'


def section(heading: str, content: str) -> str:
    """Puts content under a heading; nothing where there is none."""
    return f"<h2>{escape(heading)}</h2>{content}" if content else ""
