"""Pages of runs that no worker would make: whatever the events say, the page is whole."""

from __future__ import annotations

from html.parser import HTMLParser

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.tracker_events import numbered
from tunevane.api.type.v1.event_pb2 import (
    DecisionMade,
    EpochEnded,
    EvaluationReported,
    Event,
    LogWritten,
    MetricsMeasured,
    RunEnded,
    RunStarted,
    StepReported,
)
from tunevane.api.type.v1.metric_pb2 import Interval, MetricSet
from tunevane_tracker.fold import fold
from tunevane_tracker.journal import TrackedRun
from tunevane_tracker.page.compare import Side, compare_page
from tunevane_tracker.page.run import run_page

VOID = {"meta", "link", "br", "hr", "img", "input"}

texts = st.sampled_from(["", "minilm_ndcg@10", "a", '<b x="', "&amp;", "‮רטל", "🍕" * 30, "w" * 400, "val_loss"])
numbers = st.floats(width=64) | st.sampled_from([0.0, 0.5])
wholes = st.integers(-(2**31), 2**31 - 1) | st.integers(0, 3)
intervals = st.builds(Interval, low=numbers, high=numbers, confidence=numbers)
metrics = st.dictionaries(texts, numbers, max_size=3)

kinds = st.one_of(
    st.builds(RunStarted, resumed_after_epoch=wholes, epochs=wholes, batches_per_epoch=wholes).map(
        lambda kind: Event(run_started=kind)
    ),
    st.builds(StepReported, batch=wholes, loss=numbers, items_per_second=numbers, learning_rate=numbers).map(
        lambda kind: Event(step_reported=kind)
    ),
    st.builds(EvaluationReported, evaluation=texts, activity=texts, done=wholes, total=wholes).map(
        lambda kind: Event(evaluation_reported=kind)
    ),
    st.builds(EpochEnded, train_loss=numbers, val_loss=st.none() | numbers, batches=wholes).map(
        lambda kind: Event(epoch_ended=kind)
    ),
    st.builds(
        MetricsMeasured,
        stage=st.integers(0, 9),
        metrics=st.builds(MetricSet, values=metrics),
        intervals=st.dictionaries(texts, intervals, max_size=2),
        shown_examples=st.sampled_from([b"", b"{", b'{"m":{"queries":[{"results":[{"score":1e999}]}]}}']),
        warnings=st.lists(texts, max_size=2),
    ).map(lambda kind: Event(metrics_measured=kind)),
    st.builds(
        DecisionMade,
        callback=st.sampled_from(["best-model-checkpoint", "early-stopping/x", "other"]) | texts,
        verdict=st.integers(0, 4),
        reason=texts,
        monitor=texts,
        value=st.none() | numbers,
        patience_left=st.none() | wholes,
        best_epoch=st.none() | wholes,
    ).map(lambda kind: Event(decision_made=kind)),
    st.builds(LogWritten, severity=st.integers(0, 9), text=texts).map(lambda kind: Event(log_written=kind)),
    st.builds(RunEnded, artifact_epoch=wholes, failure_reason=texts, cancelled=st.booleans()).map(
        lambda kind: Event(run_ended=kind)
    ),
)


def placed(event: Event, epoch: int, step: int) -> Event:
    """Copies an event to a place of its own in the run."""
    copy = Event()
    copy.CopyFrom(event)
    copy.epoch, copy.step = epoch, step
    return copy


runs = st.lists(st.builds(placed, kinds, wholes, wholes), max_size=12).map(numbered)


class Whole(HTMLParser):
    """Fails on a tag that is closed in the wrong place, or that a page does not have."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert not any(name.startswith("on") for name, _ in attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def check(html: str) -> None:
    parser = Whole()
    parser.feed(html)
    assert parser.open == []
    assert 'points="nan' not in html
    assert ",nan" not in html


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(runs, st.dictionaries(texts, texts | numbers | st.lists(texts, max_size=2), max_size=3))
def test_every_run_has_a_page(events: list[Event], config: dict[str, object]) -> None:
    state = fold(events)
    run = TrackedRun(1, "u1", "some-run", config, 0.0, len(events), None, 0)
    check(run_page(run, state, {}, 1_700_000_100.0).html())


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(runs, runs)
def test_any_two_runs_can_be_compared(one: list[Event], other: list[Event]) -> None:
    sides = [Side("one", {}, fold(one)), Side("other", {"model": "minilm"}, fold(other))]
    check(compare_page(sides, []).html())
