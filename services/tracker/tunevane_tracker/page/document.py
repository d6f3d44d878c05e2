"""A page as sections that can be replaced one by one, and the frame around them."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files

from tunevane_tracker.page.html import escape

STYLE = (files(__package__) / "style.css").read_text(encoding="utf-8")
SCRIPT = (files(__package__) / "live.js").read_text(encoding="utf-8")

ICON = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 24 24' fill='none' stroke='%231f6feb' "
    "stroke-width='2.4' stroke-linecap='round'%3E%3Cpath d='M3 9h11a3 3 0 1 0-3-3M3 14h15a3 3 0 1 1-3 3M3 19h7'/%3E"
    "%3C/svg%3E"
)
LOGO = (
    '<svg viewBox="0 0 24 24" aria-hidden="true" focusable="false">'
    '<path d="M3 9h11a3 3 0 1 0-3-3M3 14h15a3 3 0 1 1-3 3M3 19h7"/></svg>'
)


def _hash(text: str) -> str:
    return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"


POLICY = (
    f"default-src 'none'; style-src {_hash(STYLE)}; script-src {_hash(SCRIPT)}; img-src data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""Nothing is loaded from elsewhere, and no style or script runs but ours."""

NEWS = "news"
"""Id of the section that is read out when it changes, and not seen."""

ANNOUNCED = ' class="unseen" role="status"'

REFRESH_SECONDS = 5
"""How often a page that changes is loaded anew where scripts are off."""


@dataclass(frozen=True)
class Document:
    """A page."""

    title: str
    """What the browser's tab says."""

    sections: Mapping[str, str]
    """HTML of each section by its id, in order; an empty one takes no room."""

    live: bool = False
    """Whether it may still change."""

    @cached_property
    def versions(self) -> dict[str, str]:
        """Names the content of each section; the title is one of them, called `title`."""
        parts = {"title": self.title, **self.sections}
        return {name: hashlib.sha256(content.encode()).hexdigest()[:16] for name, content in parts.items()}

    @cached_property
    def version(self) -> str:
        """Names the content of the whole page."""
        return hashlib.sha256("".join(self.versions.values()).encode()).hexdigest()[:16]

    def changes(self, since: Mapping[str, str]) -> dict[str, str]:
        """Returns the sections that differ from those of other versions."""
        parts = {"title": self.title, **self.sections}
        return {name: parts[name] for name, version in self.versions.items() if since.get(name) != version}

    def html(self) -> str:
        """Returns the whole page."""
        live = f' data-version="{self.version}"' if self.live else ""
        # Without scripts a page that changes loads itself again; with them it is told.
        refresh = f'<noscript><meta http-equiv="refresh" content="{REFRESH_SECONDS}"></noscript>' if self.live else ""
        script = f"<script>{SCRIPT}</script>" if self.live else ""
        parts = "".join(
            f'<div id="{name}"{ANNOUNCED if name == NEWS else ""}>{content}</div>'
            for name, content in self.sections.items()
        )
        return (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f'<meta name="color-scheme" content="light dark">{refresh}<title>{escape(self.title)} · tunevane</title>'
            f'<link rel="icon" href="{ICON}"><style>{STYLE}</style></head><body{live}>'
            f'<a class="skip" href="#main">Skip to content</a>'
            f'<header class="bar"><a class="brand" href="/runs">{LOGO}tunevane</a>'
            f'<nav aria-label="Pages"><a href="/runs">All runs</a></nav><span id="link" role="status"></span></header>'
            f'<main id="main">{parts}</main>{script}</body></html>'
        )
