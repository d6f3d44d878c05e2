"""Example results before beside after: for terminals, and as HTML for notebooks."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any, Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tunevane.client import pictures
from tunevane.core.examples import Match, Query, read
from tunevane.core.numbers import fixed

Pair = tuple[str, Query, Query | None]
"""Evaluation, the query after fine-tuning, and before; None where it was not asked then."""

NOTHING = "This run gathered no examples; use EvaluationCallback(gather_examples=True)."
BLOCK_WIDTH, BLOCK_HEIGHT = 16, 4
"""Characters and lines of a picture of coloured characters."""

CELL = "padding:2px 10px;text-align:left;vertical-align:middle;border-top:1px solid #8884"


class Examples:
    """What a few queries found, shown by whoever displays it."""

    def __init__(self, results: Mapping[str, Mapping[str, Any]], k: int) -> None:
        """Reads results.

        Args:
            results: `{"before": {evaluation: {"queries": [...]}}, "after": ...}`; Any: a JSON document.
            k: Matches per query.

        """
        before, after = (read(results.get(stage, {})) for stage in ("before", "after"))
        self._k = k
        self.pairs: list[Pair] = []
        """Each query with what it found."""
        for name, queries in after.items():
            earlier = {query.id: query for query in before.get(name, ())}
            self.pairs += [(name, query, earlier.get(query.id)) for query in queries]
        self._several = len(after) > 1

    def print(self, console: Console) -> None:
        """Prints a table for each query, with pictures where the console can show them."""
        if not self.pairs:
            console.print(NOTHING)
        way = pictures.protocol(console)
        for name, query, before in self.pairs:
            console.print(self._table(name, query, before, way))
            if way in {"kitty", "iterm"}:
                self._strips(console, query, before, way)

    def _table(self, name: str, query: Query, before: Query | None, way: pictures.Protocol) -> Table:
        title = Text(f"“{query.text}”" if query.text else query.id, style="bold")
        if self._several:
            title.append(f"  {name}", style="dim")
        moved = _moved(before, query)
        title.append(f"  {moved}" if moved else "", style="dim")
        table = Table(title=title, title_justify="left")
        if way == "blocks" and (picture := pictures.blocks(query.image, BLOCK_WIDTH, BLOCK_HEIGHT)):
            table.caption, table.caption_justify = picture, "left"
        table.add_column("", justify="right", no_wrap=True)
        for column in ("before", "after"):
            table.add_column(column, ratio=1, overflow="fold")
        table.expand = True
        for rank, (then, now) in enumerate(self._ranks(query, before), 1):
            table.add_row(str(rank), _cell(then, way), _cell(now, way))
        return table

    def _ranks(self, query: Query, before: Query | None) -> Iterator[tuple[Match | None, Match | None]]:
        then = before.results[: self._k] if before else ()
        return zip_longest(then, query.results[: self._k])

    def _strips(self, console: Console, query: Query, before: Query | None, way: Literal["kitty", "iterm"]) -> None:
        rows: list[tuple[str, Sequence[Match]]] = [
            ("before", before.results if before else ()),
            ("after", query.results),
        ]
        strips = [("query", pictures.strip([(query.image, False)]))] if query.image else []
        strips += [
            (word, pictures.strip([(match.image, match.relevant) for match in matches[: self._k]]))
            for word, matches in rows
            if matches
        ]
        for word, png in strips:
            if png is not None:
                console.print(Text(word, style="dim"))
                # Past rich, which would escape it.
                console.file.write(pictures.inline(png, way, BLOCK_HEIGHT))
                console.file.flush()

    def _repr_html_(self) -> str:
        """Returns what a notebook shows."""
        if not self.pairs:
            return f"<p>{html.escape(NOTHING)}</p>"
        return "".join(self._html(*pair) for pair in self.pairs)

    def _html(self, name: str, query: Query, before: Query | None) -> str:
        rows = "".join(
            f'<tr><td style="{CELL}">{rank}</td>{_html_cell(then)}{_html_cell(now)}</tr>'
            for rank, (then, now) in enumerate(self._ranks(query, before), 1)
        )
        evaluation = f" <small>{html.escape(name)}</small>" if self._several else ""
        head = "".join(f'<th style="{CELL}">{word}</th>' for word in ("", "before", "after"))
        return (
            f'<h4 dir="auto">{_html_content(query)}{evaluation}</h4><p>{html.escape(_moved(before, query))}</p>'
            f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
        )


def _moved(before: Query | None, after: Query) -> str:
    """Says how the rank of the first relevant result changed; empty where that says nothing."""
    if before is None or (before.first_relevant is None and after.first_relevant is None):
        return ""
    then, now = (str(each.first_relevant or "–") for each in (before, after))
    return f"first relevant: rank {then} → {now}" if then != now else f"first relevant: rank {now}"


def _cell(match: Match | None, way: pictures.Protocol) -> Text:
    if match is None:
        return Text("")
    style = "green" if match.relevant else ""
    text = Text(f"{'✓' if match.relevant else ' '} {fixed(match.score, 3)} {match.text or match.id}", style=style)
    if match.image and way == "blocks" and (picture := pictures.blocks(match.image, BLOCK_WIDTH, BLOCK_HEIGHT)):
        return Text.assemble(picture, "\n", text)
    if match.image and way == "none":
        text.append(" [picture]", style="dim")
    return text


def _html_cell(match: Match | None) -> str:
    if match is None:
        return f'<td style="{CELL}"></td>'
    mark = "✓ " if match.relevant else ""
    weight = ";font-weight:600" if match.relevant else ""
    return (
        f'<td dir="auto" style="{CELL}{weight}">{mark}{_html_content(match)} '
        f"<small>{fixed(match.score, 3)}</small></td>"
    )


def _html_content(item: Query | Match) -> str:
    alternative = "" if item.text else html.escape(item.id)
    # Only data URIs of pictures get here: `read` lets no others through.
    picture = f'<img src="{item.image}" alt="{alternative}" style="max-height:64px"> ' if item.image else ""
    return picture + html.escape(item.text or ("" if item.image else item.id))
