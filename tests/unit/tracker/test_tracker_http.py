"""The HTTP server: who may see what, and what it answers to nonsense."""

from __future__ import annotations

import http.client
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from prometheus_client import CollectorRegistry

from tunevane.errors import ConfigurationError, NotFoundError
from tunevane_tracker.config import TrackerConfig
from tunevane_tracker.http import HttpServer, Pages

TOKEN = "a-token-of-the-operator"


def page(name: str) -> str:
    if name == "bug":
        raise ZeroDivisionError("a secret path")
    if name != "known":
        raise NotFoundError(f"no run '{name}'")
    return "the page"


@contextmanager
def served(host: str = "127.0.0.1", token: str | None = None) -> Iterator[HttpServer]:
    pages = Pages(CollectorRegistry(), lambda: True, lambda: "the list", page, lambda text: f"missing: {text}", token)
    server = HttpServer(host, 0, pages)
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
        assert get(server, "/runs")[:2] == (200, "the list")
        assert get(server, "/runs/known")[:2] == (200, "the page")
        assert get(server, "/runs/known", method="HEAD")[:2] == (200, "")
        assert get(server, "/")[2]["Location"] == "/runs"
        assert get(server, "/healthz")[0] == 200


def test_what_is_not_there_is_404_and_a_bug_tells_nothing() -> None:
    with served() as server:
        assert get(server, "/runs/other")[:2] == (404, "missing: no run 'other'")
        assert get(server, "/runs/known/more")[0] == 404
        assert get(server, "/..%2f..%2fetc/passwd")[0] == 404
        status, body, _ = get(server, "/runs/bug")
        assert status == 500
        assert "secret" not in body
        assert get(server, "/runs", method="POST")[0] == 501


def test_no_page_may_load_or_run_anything() -> None:
    with served() as server:
        policy = get(server, "/runs")[2]["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script" not in policy


def test_outside_loopback_pages_need_a_token_but_metrics_do_not() -> None:
    with served("0.0.0.0") as server:
        assert get(server, "/runs")[0] == 403
        assert get(server, "/metrics")[0] == 200
    with served("0.0.0.0", TOKEN) as server:
        assert get(server, "/runs")[0] == 401
        assert get(server, "/runs", {"Authorization": "Bearer wrong"})[0] == 401
        assert get(server, "/runs", {"Authorization": f"Bearer {TOKEN}"})[0] == 200
        status, _, headers = get(server, f"/runs?token={TOKEN}")
        assert (status, headers["Location"]) == (303, "/runs")
        assert "HttpOnly" in headers["Set-Cookie"]
        assert get(server, "/runs", {"Cookie": headers["Set-Cookie"].partition(";")[0]})[0] == 200


def test_a_port_in_use_is_named() -> None:
    with served() as server, pytest.raises(ConfigurationError, match=str(server.port)):
        HttpServer("127.0.0.1", server.port, Pages(CollectorRegistry(), bool, str, page, page, None))


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
