"""The page of a run: what it says, that it escapes, and that it needs nothing from elsewhere."""

from __future__ import annotations

import json
import math
import re
from html.parser import HTMLParser

import pytest

from support.page_events import CONFIG, MRR, done, epoch, examples, failed, measured, running, start, values
from support.tracker_events import numbered, whole_run
from tunevane.api.type.v1.event_pb2 import STAGE_AFTER, STAGE_INTERVAL, Event, RunEnded, RunStarted, StepReported
from tunevane_tracker.cursors import Cursor
from tunevane_tracker.fold import fold
from tunevane_tracker.journal import TrackedRun
from tunevane_tracker.page.document import POLICY, Document
from tunevane_tracker.page.run import run_page

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


def document(
    events: list[Event], config: dict[str, object] | None = None, cursor: Cursor | None = None, name: str = "some-run"
) -> Document:
    ended = 1.0 if events and events[-1].HasField("run_ended") else None
    run = TrackedRun(1, "u1", name, config or {}, 0.0, len(events), ended, 0)
    return run_page(run, fold(events), {"wandb": cursor or Cursor(delivered=len(events))}, 1_700_000_100.0)


def page(events: list[Event], config: dict[str, object] | None = None, cursor: Cursor | None = None) -> str:
    return document(events, config, cursor).html()


def tags(html: str) -> list[tuple[str, dict[str, str | None]]]:
    parser = Strict()
    parser.feed(html)
    assert parser.open == []
    return parser.seen


def text(html: str) -> str:
    bare = re.sub(r"<(style|script)>.*?</\1>", "", html, flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", bare))


def test_a_finished_run_says_first_whether_retrieval_improved_and_why_that_epoch() -> None:
    found = document(done(), dict(CONFIG))
    answer = text(found.sections["verdict"])
    for expected in (
        "Retrieval improved",
        "0.178",
        "0.345",
        "+0.167 (+94 %)",
        "95% interval of the change: +0.147 … +0.187",
        "Kept epoch 4 because reciprocal_rank rose from 0.334 to 0.345; epochs 5 and 6 were no better; "
        "stopped after epoch 6: no improvement for 2 epochs.",
    ):
        assert expected in answer
    assert "Succeeded" in text(found.sections["head"])
    assert not found.live


def test_every_metric_is_shown_before_and_after_with_its_interval() -> None:
    words = text(document(done()).sections["metrics"])
    assert "reciprocal_rank 0.178 0.345 +0.167 +94 % +0.147 … +0.187" in words
    assert "recall_at_k 0.391 0.758 +0.367" in words


def test_the_best_epoch_is_marked_and_the_intervals_are_a_band() -> None:
    chart = document(done()).sections["verdict"]
    assert chart.count('class="kept"') == 2
    assert '<polygon class="band"' in chart
    assert 'class="base"' in chart
    assert "By epoch: reciprocal_rank by epoch from 0.1780 to 0.3440" in text(chart)


def test_an_interval_that_contains_zero_is_no_improvement() -> None:
    events = done()
    for event in events:
        if event.HasField("metrics_measured") and event.metrics_measured.stage == STAGE_AFTER:
            event.metrics_measured.intervals[MRR].low = -0.01
    answer = document(events).sections["verdict"]
    assert "No change that stands out from noise" in answer
    assert 'id="answer" class="soft"' in answer


def test_a_run_that_got_worse_says_so() -> None:
    answer = text(document(done(gain=-0.2, sure=False)).sections["verdict"])
    assert "Retrieval got worse" in answer
    assert "−0.022 (−12 %)" in answer
    assert "Kept epoch 1 because reciprocal_rank was 0.156 there; epochs 2 to 6 were no better" in answer
    assert "interval" not in answer


def test_the_metric_that_chooses_the_epoch_is_the_one_shown() -> None:
    events = done()
    for event in events:
        if event.HasField("decision_made") and event.decision_made.callback.startswith("early-stopping"):
            event.decision_made.monitor = "minilm_hit_at_k"
    assert '<p class="metric"><bdi dir="auto">minilm_reciprocal_rank' in document(events).sections["verdict"]


def test_decisions_are_told_in_words_and_those_that_agree_share_a_line() -> None:
    words = text(document(done()).sections["decisions"])
    assert "reciprocal_rank rose from 0.289 to 0.327 best-model-checkpoint early-stopping/reciprocal_rank" in words
    assert "Epoch 4 kept" in words
    assert "reciprocal_rank 0.344 is no better than the 0.345 of epoch 4" in words
    assert "Training is stopping, no improvement for 2 epochs early-stopping" in words


def test_a_running_run_shows_how_far_it_is_and_is_kept_up_to_date() -> None:
    found = document(running())
    assert found.live
    assert "Epoch 4 of 8 · batch 20 of 48" in text(found.sections["head"])
    assert "Retrieval improved so far" in found.sections["verdict"]
    assert "Best so far is epoch 3" in found.sections["verdict"]
    assert "best so far" in found.sections["decisions"]
    seen = tags(found.html())
    assert "progress" in {tag for tag, _ in seen}
    assert any(each.get("http-equiv") == "refresh" for _, each in seen)
    ended = tags(page(done()))
    assert not any(each.get("http-equiv") == "refresh" for _, each in ended)
    assert "script" not in {tag for tag, _ in ended}


def test_news_are_told_once_an_epoch() -> None:
    events = running()
    told = {document(events[:count]).sections["news"] for count in range(len(events) + 1)}
    assert sorted(told) == [
        "",
        "1 of 8 epochs done, minilm_reciprocal_rank 0.2893.",
        "1 of 8 epochs done.",
        "2 of 8 epochs done, minilm_reciprocal_rank 0.2893.",
        "2 of 8 epochs done, minilm_reciprocal_rank 0.3266.",
        "3 of 8 epochs done, minilm_reciprocal_rank 0.3266.",
        "3 of 8 epochs done, minilm_reciprocal_rank 0.3337.",
    ]


def test_a_failed_run_says_why_once_and_opens_its_log() -> None:
    found = document(failed())
    assert "ran out of memory" in found.sections["warnings"]
    assert "1 warning" not in found.sections["warnings"]
    assert "Retrieval improved before it failed" in found.sections["verdict"]
    assert '<details class="card" open>' in found.sections["log"]
    assert found.title == "failed: some-run"


def test_an_empty_run_has_a_page() -> None:
    assert "Waiting for a worker." in text(page([]))


def test_a_run_without_evaluation_shows_its_loss() -> None:
    events = numbered(
        [Event(run_started=RunStarted(epochs=2)), *(e for e in epoch(1) if not e.HasField("metrics_measured"))]
    )
    answer = text(document(events).sections["verdict"])
    assert "Training loss" in answer
    assert "Retrieval was not measured" in answer
    before = document(numbered(start())).sections["verdict"]
    assert "Before fine-tuning" in before


def test_examples_stand_side_by_side_with_the_relevant_marked() -> None:
    html = document(done()).sections["examples"]
    words = text(html)
    assert words.index("Before") < words.index("After")
    assert words.count("First relevant result: rank 4 → rank 1") == 3
    assert html.count('class="relevant"') == 6
    assert '<bdi dir="auto">شجرة</bdi>' in html
    assert "<img" not in html


def test_pictures_are_shown_where_the_data_has_them() -> None:
    html = document(done(pictures=True)).sections["examples"]
    sources = [attributes.get("src") or "" for tag, attributes in tags(html) if tag == "img"]
    assert len(sources) == 3 * (1 + 2 * 5)
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert all("alt" in attributes for tag, attributes in tags(html) if tag == "img")


def test_examples_that_are_no_examples_are_left_out() -> None:
    events = done()
    for event in events:
        if event.HasField("metrics_measured"):
            event.metrics_measured.shown_examples = b"{broken"
    assert document(events).sections["examples"] == ""


def test_metrics_within_epochs_are_a_curve_of_their_own() -> None:
    within = [
        Event(
            epoch=1, step=step, metrics_measured=measured(STAGE_INTERVAL, 1, {MRR: 0.2 + step / 1000}).metrics_measured
        )
        for step in (12, 24, 36)
    ]
    events = numbered([*start(), *within, *epoch(1)])
    html = document(events).sections["verdict"]
    assert html.count("<polyline") == 2
    assert "within epochs from 0.2120 to 0.2360" in html


def test_settings_are_grouped_and_in_a_sensible_order() -> None:
    words = text(document(done(), dict(CONFIG)).sections["settings"])
    assert "model minilm · max_seq_length 32 dataset 9f21c0a4be12 loss multiple-negatives-ranking" in words
    assert "early-stopping monitor reciprocal_rank · patience 2" in words


def test_everything_that_comes_from_outside_is_escaped() -> None:
    events = done()
    for event in events:
        if event.HasField("decision_made"):
            event.decision_made.reason = event.decision_made.callback = event.decision_made.monitor = EVIL
        if event.HasField("metrics_measured"):
            event.metrics_measured.metrics.values[EVIL] = 0.5
            event.metrics_measured.intervals[EVIL].low = -1
            hostile = json.loads(examples(2, texts=(EVIL,)))
            hostile["minilm"]["queries"][0]["image"] = f'data:image/png;base64,AA" onerror="{EVIL}'
            event.metrics_measured.shown_examples = json.dumps({**hostile, EVIL: hostile["minilm"]}).encode()
            event.metrics_measured.warnings.append(EVIL)
        if event.HasField("log_written"):
            event.log_written.text = EVIL
    events[-1].run_ended.failure_reason = EVIL
    config = {
        **CONFIG,
        "model": EVIL,
        "loss": EVIL,
        "description": EVIL,
        EVIL: [EVIL],
        "callbacks": [{"name": EVIL}, 5],
    }
    html = document(events, config, Cursor(url=f"javascript:{EVIL}", problem=EVIL), EVIL).html()
    found = tags(html)
    assert not any(tag in {"script", "iframe", "object", "embed", "form", "base"} for tag, _ in found)
    assert not any(name.startswith("on") for _, attributes in found for name in attributes)
    assert not any((attributes.get("href") or "").startswith("javascript") for _, attributes in found)
    assert html.count("alert(") > 20


def test_the_page_loads_nothing() -> None:
    loading = {"srcset", "data", "action", "poster", "background", "style"}
    for tag, attributes in tags(page(done(pictures=True), dict(CONFIG))):
        assert tag not in {"script", "iframe", "object", "embed"}
        assert not loading & attributes.keys()
        assert (attributes.get("src") or "data:image/png").startswith("data:image/png")
        assert tag != "link" or (attributes["href"] or "").startswith("data:image/svg+xml,")


def test_the_policy_allows_our_style_and_script_and_no_others() -> None:
    assert "unsafe" not in POLICY
    assert "default-src 'none'" in POLICY
    assert re.search(r"script-src 'sha256-[A-Za-z0-9+/]{43}='", POLICY)
    assert "//" not in POLICY.replace("'sha256-", "").partition("style-src")[0]


def test_what_differs_between_two_pages_is_what_is_sent() -> None:
    events = running()
    first, second = document(events[:-1]), document(events)
    assert set(second.changes(first.versions)) == {"head", "curves"}
    assert second.changes(second.versions) == {}
    assert set(second.changes({})) == {"title", *second.sections}
    assert first.version != second.version


def test_mirrors_have_links_and_say_what_is_wrong() -> None:
    html = page(whole_run(1), cursor=Cursor(url="https://wandb.example/anon/runs/u1", problem="it is away"))
    assert 'href="https://wandb.example/anon/runs/u1"' in html
    assert "it is away" in html
    assert "events behind" in html
    assert "Elsewhere" not in page(whole_run(1))


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


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e308, 5e-324, -1.0])
def test_a_page_survives_every_metric_and_interval(value: float) -> None:
    events = done()
    for event in events:
        if event.HasField("metrics_measured"):
            event.metrics_measured.metrics.values[MRR] = value
            event.metrics_measured.intervals[MRR].high = value
    assert "reciprocal_rank" in text(page(events))


def test_values_of_every_epoch_can_be_read_without_the_pictures() -> None:
    words = text(document(done()).sections["curves"])
    assert "Values of every epoch" in words
    assert f"before – – {values(0)[MRR]:.3f}" in words
