"""The tracker's pages by their addresses."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from tunevane.errors import NotFoundError
from tunevane_tracker.book import Book
from tunevane_tracker.cursors import Cursor
from tunevane_tracker.curve import Curve
from tunevane_tracker.journal import Journal, TrackedRun
from tunevane_tracker.page.compare import Side, chosen_names, compare_page
from tunevane_tracker.page.document import Document
from tunevane_tracker.page.listing import Choice, listing_page, missing_page
from tunevane_tracker.page.run import run_page
from tunevane_tracker.state import RunState

LISTED_RUNS = 200

Query = Mapping[str, Sequence[str]]
"""What follows the `?` of an address, by name."""


class Site:
    """The pages; every method may be called from any thread."""

    def __init__(
        self,
        journal: Journal,
        book: Book,
        mirrors: Callable[[TrackedRun], Mapping[str, Cursor]],
        clock: Callable[[], float],
    ) -> None:
        """Shows what is in the journal; `mirrors` tells where a run is mirrored, by sink."""
        self._journal = journal
        self._book = book
        self._mirrors = mirrors
        self._clock = clock

    def page(self, path: str, query: Query) -> Document:
        """Returns a page.

        Raises:
            NotFoundError: There is none at this address.

        """
        if path in {"/runs", "/runs/"}:
            now = self._clock()
            return listing_page(self._journal.runs(LISTED_RUNS), self._book, Choice.of(query), now, LISTED_RUNS)
        if path == "/compare":
            return self._compare(query)
        return self._run(self._journal.run(_run_name(path)))

    def stamp(self, path: str, query: Query) -> object:
        """Returns what differs when a page has news, and costs little to ask for.

        Raises:
            NotFoundError: There is no such page.

        """
        if path.startswith("/runs/") and len(path) > len("/runs/"):
            return self._journal.run(_run_name(path)).acked
        return self._journal.query("SELECT count(*), total(acked) FROM runs")[0]

    def missing(self, message: str) -> Document:
        """Returns the page for an address where nothing is."""
        return missing_page(message)

    def _run(self, run: TrackedRun) -> Document:
        mirrors = self._mirrors(run)
        return self._book.read(run, lambda state: run_page(run, state, mirrors, self._clock()))

    def _compare(self, query: Query) -> Document:
        sides, missing = [], []
        for name in chosen_names(query):
            try:
                run = self._journal.run(name)
            except NotFoundError:
                missing.append(name)
            else:
                sides.append(Side(run.name, run.config, self._book.read(run, _snapshot)))
        return compare_page(sides, missing)


def _snapshot(state: RunState) -> RunState:
    """Copies what a comparison shows: a state may only be looked at while it is lent."""
    return copy.deepcopy(replace(state, losses=Curve(), lines=deque(), examples={}))


def _run_name(path: str) -> str:
    if not path.startswith("/runs/") or path.count("/") != 2:
        raise NotFoundError("there is no such page")
    return path.removeprefix("/runs/")
