"""The HTTP server: who may see what, and what it answers to nonsense."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
from prometheus_client import CollectorRegistry

from tunevane.errors import ConfigurationError, NotFoundError
from tunevane_tracker.config import TrackerConfig
from tunevane_tracker.http import MAX_STREAMS, HttpServer, Pages
from tunevane_tracker.page.document import Document
from tunevane_tracker.page.site import Query

TOKEN = "a-token-of-the-operator"


class Site:
    """Pages of a test: one is known, one has a bug, one changes when told."""

    def __init__(self) -> None:
        self.number = 1
        self.live = True

    def page(self, path: str, query: Query) -> Document:
        if path == "/runs/bug":
            raise ZeroDivisionError("a secret path")
        if path not in {"/runs", "/runs/known"}:
            raise NotFoundError(f"no page '{path}'")
        return Document("known", {"head": f"<p>number {self.number}</p>", "rest": f"{query}"}, live=self.live)

    def stamp(self, path: str, query: Query) -> object:
        self.page(path, query)
        return self.number, self.live

    def missing(self, message: str) -> Document:
        return Document("Not found", {"what": f"missing: {message}"})


@contextmanager
def served(host: str = "127.0.0.1", token: str | None = None, site: Site | None = None) -> Iterator[HttpServer]:
    server = HttpServer(host, 0, Pages(CollectorRegistry(), lambda: True, site or Site(), token))
    try:
        yield server
    finally:
        server.close()


def get(
    server: HttpServer, path: str, headers: dict[str, str] | None = None, method: str = "GET"
) -> tuple[int, str, dict[str, str]]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        connection.request(method, path, headers=headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read().decode(), dict(answer.getheaders())
    finally:
        connection.close()


def test_pages_on_loopback_are_open() -> None:
    with served() as server:
        assert get(server, "/runs")[0] == 200
        assert "number 1" in get(server, "/runs/known")[1]
        assert get(server, "/runs/known", method="HEAD")[:2] == (200, "")
        assert get(server, "/")[2]["Location"] == "/runs"
        assert get(server, "/healthz")[0] == 200


def test_what_is_not_there_is_404_and_a_bug_tells_nothing() -> None:
    with served() as server:
        status, body, _ = get(server, "/runs/other")
        assert status == 404
        assert "missing: no page '/runs/other'" in body
        assert get(server, "/runs/known/more")[0] == 404
        assert get(server, "/..%2f..%2fetc/passwd")[0] == 404
        status, body, _ = get(server, "/runs/bug")
        assert status == 500
        assert "secret" not in body
        assert get(server, "/runs", method="POST")[0] == 501


def test_no_page_may_load_or_run_anything_of_others() -> None:
    with served() as server:
        headers = get(server, "/runs")[2]
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert headers["Referrer-Policy"] == "no-referrer"


def test_outside_loopback_pages_need_a_token_but_metrics_do_not() -> None:
    with served("0.0.0.0") as server:
        assert get(server, "/runs")[0] == 403
        assert get(server, "/metrics")[0] == 200
    with served("0.0.0.0", TOKEN) as server:
        status, body, headers = get(server, "/runs")
        assert status == 401
        assert body.count("\n") == 1
        assert "?token=" in body
        assert headers["WWW-Authenticate"].startswith("Bearer")
        assert get(server, "/metrics")[0] == get(server, "/healthz")[0] == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:8090", 200),
        ("127.0.0.1", 200),
        ("[::1]:80", 200),
        ("tracker.localhost", 200),
        ("tracker.example", 200),
        ("rebound.example", 403),
        ("127.0.0.1.example", 403),
        ("", 403),
        ("[", 403),
    ],
)
def test_open_pages_answer_only_to_their_own_names(host: str, status: int) -> None:
    pages = Pages(CollectorRegistry(), lambda: True, Site(), None, public_host="tracker.example")
    server = HttpServer("127.0.0.1", 0, pages)
    try:
        assert get(server, "/runs", {"Host": host})[0] == status
        assert get(server, "/metrics", {"Host": host})[0] == 200
    finally:
        server.close()


@pytest.mark.parametrize(
    "authorization", ["Bearer wrong", TOKEN, f"Basic {TOKEN}", "Bearer", "Bearer \xfc", f"Bearer {TOKEN}x"]
)
def test_another_authorization_does_not_open_a_page(authorization: str) -> None:
    with served("0.0.0.0", TOKEN) as server:
        assert get(server, "/runs", {"Authorization": authorization})[0] == 401
        assert get(server, "/runs", {"Authorization": f"Bearer {TOKEN}"})[0] == 200


def test_a_token_in_the_address_becomes_a_cookie_and_leaves_the_address() -> None:
    with served("0.0.0.0", TOKEN) as server:
        status, _, headers = get(server, f"/runs?q=a+b&token={TOKEN}&sort=name")
        assert (status, headers["Location"]) == (303, "/runs?q=a+b&sort=name")
        cookie = headers["Set-Cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        assert TOKEN not in cookie
        assert get(server, "/runs", {"Cookie": cookie.partition(";")[0]})[0] == 200
        assert get(server, "/runs", {"Cookie": f"tunevane_token={TOKEN}"})[0] == 401
        assert get(server, f"//evil.example/runs?token={TOKEN}")[2]["Location"] == "/evil.example/runs"
        assert get(server, "/runs?token=wrong")[0] == 401


@contextmanager
def stream(server: HttpServer, path: str, headers: dict[str, str] | None = None) -> Iterator[http.client.HTTPResponse]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        connection.request("GET", path, headers={"Accept": "text/event-stream", **(headers or {})})
        yield connection.getresponse()
    finally:
        connection.close()


def message(answer: http.client.HTTPResponse) -> dict[str, str]:
    """Reads a message; comments are none."""
    fields: dict[str, str] = {}
    while line := answer.readline().decode():
        name, _, value = line.rstrip("\n").partition(":")
        if name in {"id", "data", "event"}:
            fields[name] = value.strip()
        elif line == "\n" and fields:
            return fields
    raise AssertionError("the stream ended")


def test_a_watched_page_is_told_what_changed_and_when_it_is_over() -> None:
    site = Site()
    with served(site=site) as server, stream(server, "/runs/known") as answer:
        assert answer.getheader("Content-Type") == "text/event-stream"
        first = message(answer)
        assert set(json.loads(first["data"])) == {"title", "head", "rest"}
        assert first["id"] == site.page("/runs/known", {}).version
        site.number = 2
        second = message(answer)
        assert json.loads(second["data"]) == {"head": "<p>number 2</p>"}
        site.live = False
        assert message(answer)["event"] == "end"
        assert answer.read() == b""


@pytest.mark.parametrize("how", ["header", "address"])
def test_who_has_a_version_already_is_told_only_what_came_after(how: str) -> None:
    site = Site()
    query = {"since": ["x"]} if how == "address" else {}
    version = site.page("/runs/known", query).version
    path = "/runs/known"
    headers = {"Last-Event-ID": version}
    if how == "address":
        # The version is part of this page's content, so that it is asked for with the one that it gives.
        site.page = lambda path, query: Document("known", {"head": f"{site.number}"}, live=True)  # type: ignore[method-assign]
        path, headers = f"/runs/known?since={site.page(path, {}).version}", {}
    with served(site=site) as server, stream(server, path, headers) as answer:
        assert answer.readline() == b"retry: 1000\n"
        assert answer.readline() == b"\n"
        assert answer.readline() == b":\n"
        site.number = 2
        assert set(json.loads(message(answer)["data"])) == {"head"}


def test_a_stream_of_nothing_is_404_and_one_too_many_asks_again() -> None:
    with served() as server, stream(server, "/runs/other") as answer:
        assert answer.status == 404
    with served() as server, ExitStack() as open_:
        watched = [open_.enter_context(stream(server, "/runs")) for _ in range(MAX_STREAMS)]
        assert {answer.status for answer in watched} == {200}
        with stream(server, "/runs") as answer:
            assert answer.status == 503


def test_closing_does_not_wait_for_those_who_watch() -> None:
    began = time.monotonic()
    with served() as server, stream(server, "/runs") as answer:
        message(answer)
        server.close()
        assert time.monotonic() - began < 8
        assert answer.read() == b""


def test_a_port_in_use_is_named() -> None:
    with served() as server, pytest.raises(ConfigurationError, match=str(server.port)):
        HttpServer("127.0.0.1", server.port, Pages(CollectorRegistry(), bool, Site(), None))


def test_every_wrong_setting_is_reported() -> None:
    config = TrackerConfig(
        port=-1,
        http_port=70_000,
        max_runs=0,
        drain_seconds=-1.0,
        wandb_transmit_seconds=0.0,
        wandb_base_url="ftp://somewhere",
        public_url="nowhere",
        http_token="short",
    )
    assert sorted(problem.field for problem in config.problems()) == sorted(
        [
            "drain_seconds",
            "http_port",
            "http_token",
            "max_runs",
            "port",
            "public_url",
            "wandb_base_url",
            "wandb_transmit_seconds",
        ]
    )
    assert list(TrackerConfig().problems()) == []


def test_the_tracker_imports_neither_torch_nor_wandb() -> None:
    code = "import sys, tunevane_tracker.service; sys.exit(bool({'torch', 'wandb'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
