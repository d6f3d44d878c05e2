"""The list of runs and the comparison: choosing by address, and what they show."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from support.page_events import CONFIG, done, failed, running
from support.tracker_events import whole_run
from tunevane.api.type.v1.event_pb2 import Event
from tunevane.errors import NotFoundError
from tunevane_tracker.book import Book
from tunevane_tracker.journal import Journal
from tunevane_tracker.page.document import Document
from tunevane_tracker.page.site import Site

EVIL = '"><script>alert(1)</script>'


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    opened = Journal(tmp_path / "tracker.sqlite", clock=lambda: 1_700_000_000.0)
    yield opened
    opened.close()


@pytest.fixture
def site(journal: Journal) -> Site:
    append(journal, "alpha", done())
    append(journal, "bravo", done(gain=0.5), {**CONFIG, "batch_size": 128, "model": "other"})
    append(journal, "delta", failed(), {**CONFIG, "seed": 1})
    append(journal, "gamma", running())
    return Site(journal, Book(journal), lambda run: {}, lambda: 1_700_000_500.0)


def append(journal: Journal, name: str, events: list[Event], config: Mapping[str, object] = CONFIG) -> None:
    journal.append(name, f"uid-{name}", events, dict(config)).result()


def words(document: Document) -> str:
    bare = re.sub(r"<(style|script)>.*?</\1>", "", document.html(), flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", bare))


def names(document: Document) -> list[str]:
    return re.findall(r'href="/runs/([^"?]+)"', document.sections["list"])


def test_running_ones_come_first_then_the_newest(site: Site) -> None:
    listed = site.page("/runs", {})
    assert names(listed) == ["gamma", "delta", "bravo", "alpha"]
    assert listed.live
    assert "0.345" in words(listed)
    assert listed.sections["list"].count('class="spark plot"') == 4


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"state": ["failed"]}, ["delta"]),
        ({"state": ["nonsense"]}, ["gamma", "delta", "bravo", "alpha"]),
        ({"q": ["ALPH"]}, ["alpha"]),
        ({"q": ["other"]}, ["bravo"]),
        ({"q": ["other"], "state": ["failed"]}, []),
        ({"sort": ["name"]}, ["alpha", "bravo", "delta", "gamma"]),
        ({"sort": ["name"], "order": ["desc"]}, ["gamma", "delta", "bravo", "alpha"]),
        ({"sort": ["score"], "order": ["desc"]}, ["alpha", "gamma", "delta", "bravo"]),
        ({"sort": ["gain"]}, ["bravo", "delta", "gamma", "alpha"]),
        ({"sort": ["state"]}, ["gamma", "bravo", "alpha", "delta"]),
        ({"sort": ["; drop"]}, ["gamma", "delta", "bravo", "alpha"]),
    ],
)
def test_the_address_filters_and_sorts(site: Site, query: dict[str, list[str]], expected: list[str]) -> None:
    assert names(site.page("/runs", query)) == expected


def test_a_heading_sorts_and_then_turns_the_order_and_keeps_the_filter(site: Site) -> None:
    html = site.page("/runs", {"q": ["a"], "sort": ["score"], "order": ["desc"]}).html()
    assert 'aria-sort="descending"><a href="/runs?q=a&amp;sort=score">' in html
    assert 'href="/runs?q=a&amp;sort=gain&amp;order=desc"' in html
    assert '<input type="hidden" name="order" value="desc">' in html


def test_what_is_asked_for_is_escaped(site: Site, journal: Journal) -> None:
    html = site.page("/runs", {"q": [EVIL], "sort": [EVIL], "state": [EVIL]}).html()
    assert "<script>alert" not in html
    assert "No run fits." in html
    assert "<script>alert" not in site.page("/compare", {"runs": [EVIL]}).html()
    assert "<script>alert" not in site.missing(EVIL).html()


def test_no_run_at_all_says_how_to_start_one(journal: Journal) -> None:
    empty = Site(journal, Book(journal), lambda run: {}, lambda: 0.0).page("/runs", {})
    assert "tunevane.fit(...)" in words(empty)


def test_two_runs_are_compared(site: Site) -> None:
    compared = site.page("/compare", {"runs": ["alpha,bravo"]})
    said = words(compared)
    assert "2 runs compared" in said
    assert "reciprocal_rank 0.345 (best) 0.262" in said
    assert "batch_size 64 128" in said
    assert "epochs 8" not in said
    curves = compared.sections["curves"]
    assert curves.count('<polyline class="s0"') == curves.count('<polyline class="s1"') == 10
    assert not compared.live


def test_a_running_one_keeps_the_comparison_live_and_one_can_be_left_out(site: Site) -> None:
    compared = site.page("/compare", {"runs": ["alpha", "gamma", "bravo"]})
    assert compared.live
    assert 'href="/compare?runs=gamma,bravo"' in compared.sections["runs"]


def test_runs_that_are_not_known_are_named_and_the_others_compared(site: Site) -> None:
    compared = site.page("/compare", {"runs": ["alpha,nobody,delta"]})
    assert "The tracker knows no run nobody" in words(compared)
    assert "2 runs compared" in words(compared)
    assert "Select two runs or more" in words(site.page("/compare", {}))


def test_same_settings_and_runs_without_metrics_are_compared_too(site: Site, journal: Journal) -> None:
    append(journal, "empty", [])
    append(journal, "other", whole_run(1))
    assert "All settings are the same." in words(site.page("/compare", {"runs": ["alpha,gamma"]}))
    assert "3 runs compared" in words(site.page("/compare", {"runs": ["empty,other,alpha"]}))


def test_what_costs_little_tells_that_there_are_news(site: Site, journal: Journal) -> None:
    before = [site.stamp(path, {}) for path in ("/runs/alpha", "/runs", "/compare")]
    append(journal, "epsilon", whole_run(1))
    after = [site.stamp(path, {}) for path in ("/runs/alpha", "/runs", "/compare")]
    assert before[0] == after[0]
    assert before[1:] != after[1:]


@pytest.mark.parametrize("path", ["/runs/nobody", "/runs/alpha/more", "/other", "/runs/../x"])
def test_other_addresses_are_not_found(site: Site, path: str) -> None:
    with pytest.raises(NotFoundError):
        site.page(path, {})
