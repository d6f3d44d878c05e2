"""The pages: what they say, that they escape, and that they need nothing from elsewhere."""

from __future__ import annotations

import math
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.tracker_events import numbered, whole_run
from tunevane.api.type.v1.event_pb2 import Event, RunEnded, RunStarted, StepReported
from tunevane_tracker.cursors import Cursor
from tunevane_tracker.journal import TrackedRun
from tunevane_tracker.page.chart import Chart, Series, nice_ticks
from tunevane_tracker.page.html import duration, number
from tunevane_tracker.page.run import run_page
from tunevane_tracker.page.table import short_names
from tunevane_tracker.state import fold

EVIL = '<script>alert("1")</script>'
VOID = {"meta", "link", "br", "hr", "img", "input"}


class Strict(HTMLParser):
    """Collects tags, and fails on one that is closed in the wrong place."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def page(events: list[Event], config: dict[str, object] | None = None, cursor: Cursor | None = None) -> str:
    run = TrackedRun(1, "u1", "some-run", config or {}, 0.0, len(events), 1.0, 0)
    return run_page(run, fold(events), {"wandb": cursor or Cursor()}, 1_700_000_100.0)


def tags(html: str) -> list[tuple[str, dict[str, str | None]]]:
    parser = Strict()
    parser.feed(html)
    assert parser.open == []
    return parser.seen


def text(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", re.sub(r"<style>.*?</style>", "", html, flags=re.DOTALL)))


def test_a_finished_run_says_what_it_brought_and_why() -> None:
    words = text(page(whole_run(2), {"model": "minilm"}))
    for expected in ("Succeeded", "0.5000", "0.5200", "+0.0200", "Kept epoch 2 because best-model-checkpoint"):
        assert expected in words
    assert "half of the texts are the same" in words
    assert "Epoch 1" in words


def test_a_running_run_refreshes_itself_and_a_finished_one_does_not() -> None:
    running = tags(page(whole_run(2)[:5]))
    assert any(attributes.get("http-equiv") == "refresh" for _, attributes in running)
    assert any(attributes.get("role") == "progressbar" for _, attributes in running)
    assert not any(attributes.get("http-equiv") == "refresh" for _, attributes in tags(page(whole_run(2))))


def test_an_empty_run_has_a_page() -> None:
    assert "Waiting" in text(page([]))


def test_everything_that_comes_from_outside_is_escaped() -> None:
    events = whole_run(1, warning=EVIL)
    for event in events:
        if event.HasField("decision_made"):
            event.decision_made.reason = event.decision_made.callback = event.decision_made.monitor = EVIL
        if event.HasField("metrics_measured"):
            event.metrics_measured.metrics.values[EVIL] = 0.5
    events[-1].run_ended.failure_reason = EVIL
    html = page(events, {"model": EVIL, "loss": EVIL, EVIL: EVIL}, Cursor(url=f"javascript:{EVIL}", problem=EVIL))
    found = tags(html)
    assert not any(tag in {"script", "iframe", "object", "embed"} for tag, _ in found)
    assert not any(name.startswith("on") for _, attributes in found for name in attributes)
    assert not any((attributes.get("href") or "").startswith("javascript") for _, attributes in found)
    assert "alert(" in html


def test_the_page_loads_nothing() -> None:
    loading = {"src", "srcset", "data", "action", "poster", "background"}
    for tag, attributes in tags(page(whole_run(2))):
        assert tag not in {"link", "script", "img"}
        assert not loading & attributes.keys()


def test_only_the_claim_free_link_of_wandb_is_shown() -> None:
    html = page(whole_run(1), cursor=Cursor(url="https://wandb.example/anon/runs/u1"))
    assert 'href="https://wandb.example/anon/runs/u1"' in html
    assert "apiKey" not in html


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf, 1e308, 5e-324, -0.0])
def test_a_page_survives_every_number(loss: float) -> None:
    report = StepReported(batch=1, loss=loss, learning_rate=loss, items_per_second=1.0)
    events = [
        Event(run_started=RunStarted(epochs=1)),
        Event(epoch=1, step=1, step_reported=report),
        Event(run_ended=RunEnded(failure_reason="the loss is not finite")),
    ]
    made = numbered(events)
    made[0].event_time.seconds = -(1 << 40)
    assert "Training loss" in text(page(made))


finite = st.floats(allow_nan=False, allow_infinity=False, min_value=-1e300, max_value=1e300)


@given(finite, finite)
def test_ticks_enclose_the_values(one: float, other: float) -> None:
    low, high = min(one, other), max(one, other)
    ticks = nice_ticks(low, high)
    assert 2 <= len(ticks) <= 12
    assert ticks == sorted(set(ticks))
    slack = 1e-6 * max(abs(low), abs(high), ticks[1] - ticks[0])
    assert ticks[0] <= low + slack
    assert ticks[-1] >= high - slack


def test_a_curve_breaks_where_it_is_not_finite() -> None:
    points = [(1.0, 0.5), (2.0, math.nan), (3.0, 0.7), (4.0, 0.6)]
    svg = Chart("loss", "step", [Series("training", "s0", points)]).svg()
    assert svg.count("<polyline") == 2
    assert "nan" not in svg.lower().replace("aria", "").replace(": training", "").replace("nan;", "")


def test_numbers_and_times_are_short() -> None:
    assert [number(value) for value in (None, 0.0, 0.5, -0.5, 1e-9, math.inf)] == [
        "–",
        "0.0000",
        "0.5000",
        "−0.5000",
        "1e−09",
        "∞",
    ]
    assert [duration(seconds) for seconds in (-5, 0, 61, 3600, 90_061)] == ["0 s", "0 s", "1 min 1 s", "1 h", "1 d 1 h"]


def test_short_names_keep_what_differs() -> None:
    assert short_names(["minilm_ndcg@10", "minilm_recall_at_k"]) == {
        "minilm_ndcg@10": "ndcg@10",
        "minilm_recall_at_k": "recall_at_k",
    }
    assert short_names(["minilm_ndcg@10"]) == {"minilm_ndcg@10": "minilm_ndcg@10"}
    assert short_names([]) == {}
