"""Example results: the same queries before and after fine-tuning, side by side."""

from __future__ import annotations

from collections.abc import Sequence

from tunevane.core.examples import Match, Query, read_json
from tunevane.core.numbers import fixed
from tunevane_tracker.page.html import escape, foreign, typographic
from tunevane_tracker.state import RunState

SHOWN_QUERIES, SHOWN_RESULTS = 5, 5
"""Queries shown at once, further ones are folded away; results of each."""


def gallery(state: RunState) -> str:
    """Shows what the gathered queries found; nothing when none were gathered."""
    before, after = (read_json(state.examples.get(stage, b"")) for stage in ("before", "after"))
    names = list(after) or list(before)
    parts = []
    for name in names:
        several = len(names) > 1
        heading = f"<h3>{foreign(name)}</h3>" if several else ""
        parts.append(heading + _evaluation(before.get(name, ()), after.get(name, ()), 4 if several else 3))
    return "".join(parts)


def _evaluation(before: Sequence[Query], after: Sequence[Query], level: int) -> str:
    earlier, later = ({each.id: each for each in found} for found in (before, after))
    cards = [_card(query, earlier.get(query.id), later.get(query.id), level) for query in after or before]
    first, rest = cards[:SHOWN_QUERIES], cards[SHOWN_QUERIES:]
    more = f"<details><summary>{len(rest)} more queries</summary>{''.join(rest)}</details>" if rest else ""
    return "".join(first) + more


def _card(query: Query, before: Query | None, after: Query | None, level: int) -> str:
    columns = [
        _column(word, found, level + 1) for word, found in (("Before", before), ("After", after)) if found is not None
    ]
    return (
        f'<article class="card example"><h{level}>{_content(query, query.id)}</h{level}>{_moved(before, after)}'
        f'<div class="sides">{"".join(columns)}</div></article>'
    )


def _moved(before: Query | None, after: Query | None) -> str:
    if before is None or after is None or (before.first_relevant is None and after.first_relevant is None):
        return ""
    then, now = before.first_relevant, after.first_relevant
    worst = max(len(before.results), len(after.results)) + 1
    better = (then or worst) - (now or worst)
    look = "good" if better > 0 else "bad" if better < 0 else "soft"
    if then == now:
        return f'<p class="moved soft">First relevant result at rank {now}, as before</p>'
    return f'<p class="moved {look}">First relevant result: {_rank(then)} → {_rank(now)}</p>'


def _rank(rank: int | None) -> str:
    return "not among the results" if rank is None else f"rank {rank}"


def _column(word: str, query: Query, level: int) -> str:
    items = "".join(_match(match) for match in query.results[:SHOWN_RESULTS])
    return f'<div><h{level}>{word}</h{level}><ol class="matches">{items or "<li>nothing found</li>"}</ol></div>'


def _match(match: Match) -> str:
    relevant = (
        '<span class="mark good" aria-hidden="true">✓</span><span class="unseen">relevant: </span>'
        if match.relevant
        else '<span class="mark" aria-hidden="true"></span>'
    )
    style = ' class="relevant"' if match.relevant else ""
    content = _content(match, match.id)
    score = f'<span class="score">{typographic(fixed(match.score, 3))}</span>'
    return f'<li{style}>{relevant}<span class="what">{content}</span>{score}</li>'


def _content(item: Query | Match, fallback: str) -> str:
    picture = f'<img src="{escape(item.image)}" alt="{"" if item.text else escape(fallback)}">' if item.image else ""
    text = item.text or ("" if item.image else fallback)
    return picture + (f'<span class="clamp">{foreign(text)}</span>' if text else "")
