"""The tracker's pages in a real browser: they render, live, read well to machines and people, and ask nobody else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import pytest
from google.protobuf import json_format
from google.protobuf.struct_pb2 import Struct
from playwright.sync_api import Browser, ViewportSize, expect

from support.browser import chromium, violations, visit
from support.page_events import BEFORE, CONFIG, done, end, epoch, examples, failed, log, running, start
from support.proxy import proxied
from support.tracker_events import numbered
from support.tracker_service import Served, tracker
from tunevane.api.tracker.v1 import tracker_service_pb2 as pb
from tunevane.api.type.v1.event_pb2 import Event
from tunevane_tracker.config import TrackerConfig

TOKEN = "a-token-of-the-operator"
LONG = "a-very-long-name-" * 12
HOSTILE = '"><script>document.title="taken over"</script><img src=x onerror=alert(1)> שלום ' + "w" * 300 + " 🍕"
MANY = [*BEFORE, *(f"{name}@{k}" for name in ("precision", "recall", "ndcg") for k in (1, 5, 10, 20, 50))]

DESKTOP = ViewportSize(width=1200, height=900)
PHONE = ViewportSize(width=360, height=740)

PAGES = {
    "list": "/runs",
    "filtered": "/runs?q=emoji&sort=score&order=desc",
    "done": "/runs/emoji-names",
    "pictures": "/runs/emoji-pictures",
    "running": "/runs/emoji-running",
    "failed": "/runs/emoji-oom",
    "many": "/runs/many-metrics",
    "waiting": "/runs/waiting-one",
    "hostile": "/runs/hostile",
    "compare": "/compare?runs=emoji-names,emoji-pictures,emoji-running,nobody",
}


def publish(served: Served, name: str, events: list[Event], config: Mapping[str, object] = CONFIG) -> None:
    request = pb.PublishEventsRequest(run=f"runs/{name}", uid=name, events=events)
    request.config.CopyFrom(json_format.ParseDict(dict(config), Struct()))
    served.stub.PublishEvents(request)


def hostile() -> list[Event]:
    events = done()
    for event in events:
        if event.HasField("metrics_measured"):
            event.metrics_measured.metrics.values[HOSTILE] = 0.25
            event.metrics_measured.shown_examples = examples(2, texts=(HOSTILE, "شجرة " * 60, "w" * 400))
        if event.HasField("decision_made"):
            event.decision_made.callback = HOSTILE
        if event.HasField("log_written"):
            event.log_written.text = HOSTILE
    return events


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


def settings(folder: Path) -> TrackerConfig:
    return TrackerConfig(port=0, http_port=0, state_dir=folder, wandb="off")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with tracker(settings(tmp_path_factory.mktemp("tracker"))) as started:
        publish(started, "emoji-names", done())
        publish(started, "emoji-pictures", done(pictures=True, gain=0.7), {**CONFIG, "batch_size": 128})
        publish(started, "emoji-running", running())
        publish(started, "emoji-oom", failed(), {**CONFIG, "batch_size": 1024})
        publish(started, "many-metrics", done(MANY, sure=False, gain=-0.2))
        publish(started, "waiting-one", numbered([log("Queued behind 2 runs")]))
        publish(started, "hostile", hostile(), {**CONFIG, "model": HOSTILE, "description": HOSTILE, LONG: LONG})
        yield started


def base(served: Served) -> str:
    return f"http://127.0.0.1:{served.http_port}"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_clean_fits_and_is_accessible(browser: Browser, served: Served, name: str, scheme: str) -> None:
    size = PHONE if scheme == "dark" else DESKTOP
    with visit(browser, base(served), color_scheme=scheme, viewport=size) as visited:
        page = visited.open(PAGES[name])
        expect(page.locator("h1")).to_be_visible()
        page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
        assert visited.fits()
        assert violations(page) == []
        page.set_viewport_size(DESKTOP if scheme == "dark" else PHONE)
        assert visited.fits()
        assert "taken over" not in page.title()


def test_light_and_dark_are_different_pages_to_the_eye(browser: Browser, served: Served) -> None:
    grounds = []
    for scheme in ("light", "dark"):
        with visit(browser, base(served), color_scheme=scheme) as visited:
            page = visited.open(PAGES["done"])
            grounds.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert grounds == ["rgb(246, 247, 249)", "rgb(15, 19, 24)"]


def test_news_arrive_without_loading_the_page_again(browser: Browser, served: Served) -> None:
    made = [*start(), *epoch(1)]
    rest = [*epoch(2), *epoch(3), *epoch(4), *epoch(5), *epoch(6), *end()]
    events = numbered([*made, *rest])
    publish(served, "live", events[: len(made)])
    with visit(browser, base(served)) as visited:
        page = visited.open("/runs/live")
        expect(page.locator("#link")).to_have_text("Live")
        page.evaluate("window.sameDocument = true")
        page.locator("#curves summary").first.click()
        summary = page.locator("#curves summary").first
        summary.focus()
        publish(served, "live", events[: len(made) + len(epoch(2))])
        expect(page.locator("#verdict .now")).to_have_text("0.327")
        expect(page.locator("#news")).to_have_text("2 of 8 epochs done, minilm_reciprocal_rank 0.3266.")
        # What the reader opened and where the keyboard stands survives.
        assert page.evaluate("document.querySelector('#curves details').open")
        assert page.evaluate("document.activeElement.tagName") == "SUMMARY"
        publish(served, "live", events)
        expect(page.locator("#head .pill")).to_have_text("Succeeded")
        expect(page.locator("#examples article")).to_have_count(3)
        expect(page.locator("#link")).to_have_text("")
        assert page.title() == "live · tunevane"
        assert page.evaluate("window.sameDocument")
        # Nothing is asked for again once the run is over.
        asked = len(visited.requests)
        assert asked == 2
        assert violations(page) == []


def test_a_broken_connection_is_taken_up_again(browser: Browser, served: Served) -> None:
    events = numbered([*start(), *epoch(1), *epoch(2)])
    publish(served, "broken", events[:3])
    with proxied(f"127.0.0.1:{served.http_port}") as proxy, visit(browser, f"http://{proxy.target}") as visited:
        page = visited.open("/runs/broken")
        expect(page.locator("#link")).to_have_text("Live")
        proxy.break_all()
        publish(served, "broken", events)
        expect(page.locator("#verdict .now")).to_have_text("0.327", timeout=15_000)
        expect(page.locator("#link")).to_have_text("Live")
        # The browser itself says that the connection broke; nothing else may be said.
        assert all("ERR_" in each for each in visited.complaints)
        visited.complaints.clear()


def test_a_tracker_that_was_away_is_found_again(browser: Browser, tmp_path: Path) -> None:
    config = settings(tmp_path / "state")
    events = numbered([*start(), *epoch(1)])
    with visit(browser, "http://127.0.0.1") as visited:
        with tracker(config) as first:
            publish(first, "moved", events[:3])
            visited.base, port = base(first), first.http_port
            page = visited.open("/runs/moved")
            expect(page.locator("#link")).to_have_text("Live")
        expect(page.locator("#link")).to_have_text("Reconnecting …")
        with tracker(replace(config, http_port=port)) as second:
            publish(second, "moved", events)
            expect(page.locator("#verdict .now")).to_have_text("0.289", timeout=20_000)
        visited.complaints.clear()


def test_without_scripts_the_page_says_the_same_and_loads_itself_again(browser: Browser, served: Served) -> None:
    events = numbered([*start(), *epoch(1), *epoch(2)])
    publish(served, "plain", events[: len(start()) + len(epoch(1))])
    with visit(browser, base(served), java_script_enabled=False) as visited:
        page = visited.open("/runs/plain")
        expect(page.locator("#verdict .now")).to_have_text("0.289")
        publish(served, "plain", events)
        expect(page.locator("#verdict .now")).to_have_text("0.327", timeout=15_000)


def test_without_scripts_runs_are_filtered_sorted_and_compared(browser: Browser, served: Served) -> None:
    with visit(browser, base(served), java_script_enabled=False) as visited:
        page = visited.open("/runs")
        page.get_by_label("Name or model").fill("emoji")
        page.get_by_label("State").select_option("Succeeded")
        page.get_by_role("button", name="Filter").click()
        expect(page.locator("tbody tr")).to_have_count(2)
        page.get_by_role("link", name="Retrieval").click()
        expect(page.locator("tbody th a").first).to_have_text("emoji-names")
        page.get_by_role("link", name="Retrieval").click()
        expect(page.locator("tbody th a").first).to_have_text("emoji-pictures")
        for box in page.get_by_role("checkbox").all():
            box.check()
        page.get_by_role("button", name="Compare").click()
        expect(page.locator("h1")).to_have_text("2 runs compared")
        expect(page.locator("#settings tbody")).to_contain_text("batch_size")
        page.get_by_role("link", name="emoji-names").first.click()
        expect(page.locator("h1")).to_have_text("emoji-names")


def test_ticks_survive_news(browser: Browser, served: Served) -> None:
    with visit(browser, base(served)) as visited:
        page = visited.open("/runs")
        expect(page.locator("#link")).to_have_text("Live")
        page.get_by_label("Select emoji-names").check()
        publish(served, "newcomer", numbered(start()))
        expect(page.get_by_role("link", name="newcomer")).to_be_visible()
        assert page.get_by_label("Select emoji-names").is_checked()


def test_the_keyboard_reaches_everything(browser: Browser, served: Served) -> None:
    with visit(browser, base(served)) as visited:
        page = visited.open(PAGES["done"])
        page.keyboard.press("Tab")
        expect(page.locator(".skip")).to_be_focused()
        expect(page.locator(".skip")).to_be_in_viewport()
        page.keyboard.press("Enter")
        assert page.url.endswith("#main")
        reached = set()
        for _ in range(12):
            page.keyboard.press("Tab")
            reached.add(
                page.evaluate("document.activeElement.tagName + ' ' + (document.activeElement.ariaLabel || '')")
            )
        assert {"SUMMARY ", "DIV Settings"} <= reached


def test_outside_loopback_the_token_opens_the_pages_and_leaves_the_address(browser: Browser, tmp_path: Path) -> None:
    config = replace(settings(tmp_path / "state"), http_host="0.0.0.0", http_token=TOKEN)
    with tracker(config) as guarded:
        publish(guarded, "secret", numbered([*start(), *epoch(1)]))
        with visit(browser, base(guarded)) as visited:
            page = visited.open("/runs/secret")
            assert "?token=" in page.locator("body").inner_text()
            assert "reciprocal_rank" not in page.content()
            visited.complaints.clear()
            page = visited.open(f"/runs/secret?token={quote(TOKEN)}")
            assert page.url.endswith("/runs/secret")
            expect(page.locator("#link")).to_have_text("Live")
            assert page.evaluate("document.cookie") == ""
            assert TOKEN not in page.content()


def test_what_is_not_accessible_would_be_found(browser: Browser) -> None:
    with visit(browser, "about:") as visited:
        visited.page.set_content("<html><body><input><p style='color:#aaa;background:#fff'>pale</p></body></html>")
        found = "\n".join(violations(visited.page))
        assert "color-contrast" in found
        assert "label" in found
