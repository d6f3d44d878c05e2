"""How Weights & Biases is used: an account, else anonymously, else offline; a key is never left readable."""

from __future__ import annotations

import base64
import json
import stat
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tunevane_tracker.sinks.wandb.ladder import Ladder


class StandIn:
    """A server that knows some keys and hands out anonymous ones."""

    def __init__(self) -> None:
        self.keys = {"operator"}
        self.anonymous = True
        self.asked: list[str] = []
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                query = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["query"]
                key = (
                    base64.b64decode(self.headers["Authorization"].removeprefix("Basic ")).decode().removeprefix("api:")
                )
                status, answer = stand_in.answer(query, key)
                body = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's name
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def answer(self, query: str, key: str) -> tuple[int, object]:
        if "createAnonymousEntity" in query:
            self.asked.append("anonymous")
            if not self.anonymous:
                return 200, {"data": {"createAnonymousEntity": None}, "errors": [{"message": "no"}]}
            made = f"anonymous-{len(self.keys)}"
            self.keys.add(made)
            return 200, {"data": {"createAnonymousEntity": {"apiKey": {"name": made}}}}
        self.asked.append("viewer")
        return (200, {"data": {"viewer": {"id": "v"}}}) if key in self.keys else (401, {})


@pytest.fixture
def stand_in() -> Iterator[StandIn]:
    made = StandIn()
    thread = threading.Thread(target=made.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


def ladder(folder: Path, **environ: str) -> Ladder:
    return Ladder(folder / "wandb", {"HOME": str(folder), **environ}, lambda: 0.0)


def test_the_operators_key_comes_first(tmp_path: Path, stand_in: StandIn) -> None:
    account = ladder(tmp_path, WANDB_API_KEY="operator").account(stand_in.url)
    assert (account.kind, account.key) == ("account", "operator")
    assert stand_in.asked == ["viewer"]
    assert "operator" not in repr(account)


def test_a_key_in_netrc_is_the_operators_too(tmp_path: Path, stand_in: StandIn) -> None:
    netrc = tmp_path / ".netrc"
    netrc.write_text("machine 127.0.0.1 login user password operator\n")
    netrc.chmod(0o600)
    assert ladder(tmp_path).account(stand_in.url).kind == "account"


def test_a_refused_key_of_the_operator_is_not_replaced_by_an_anonymous_one(tmp_path: Path, stand_in: StandIn) -> None:
    account = ladder(tmp_path, WANDB_API_KEY="stale").account(stand_in.url)
    assert (account.kind, account.key) == ("offline", "")
    assert "refuses the API key" in account.reason
    assert "anonymous" not in stand_in.asked


def test_an_anonymous_key_is_kept_private_and_used_until_it_is_refused(tmp_path: Path, stand_in: StandIn) -> None:
    first = ladder(tmp_path).account(stand_in.url)
    again = ladder(tmp_path).account(stand_in.url)
    assert first.kind == again.kind == "anonymous"
    assert first.key == again.key
    assert stand_in.asked.count("anonymous") == 1
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "wandb").iterdir()}
    assert modes == {0o600}
    stand_in.keys.remove(first.key)
    stand_in.keys.add("other")
    stand_in.keys.add("another")
    renewed = ladder(tmp_path).account(stand_in.url)
    assert renewed.kind == "anonymous"
    assert renewed.key != first.key


def test_offline_is_tried_again_later(tmp_path: Path, stand_in: StandIn) -> None:
    now = 0.0
    stand_in.anonymous = False
    made = Ladder(tmp_path / "wandb", {"HOME": str(tmp_path)}, lambda: now)
    assert made.account(stand_in.url).reason == f"{stand_in.url} refuses anonymous runs"
    stand_in.anonymous = True
    assert made.account(stand_in.url).kind == "offline"
    now = 301.0
    assert made.account(stand_in.url).kind == "anonymous"


def test_a_server_that_is_away_means_offline_and_says_why(tmp_path: Path, stand_in: StandIn) -> None:
    account = ladder(tmp_path).account("http://127.0.0.1:9")
    assert account.kind == "offline"
    assert "cannot be reached" in account.reason


def test_set_to_offline_asks_nobody(tmp_path: Path, stand_in: StandIn) -> None:
    made = Ladder(tmp_path / "wandb", {"WANDB_API_KEY": "operator"}, lambda: 0.0, offline=True)
    assert made.account(stand_in.url).kind == made.kind == "offline"
    assert stand_in.asked == []


def test_a_server_that_sends_us_elsewhere_is_not_followed_with_the_key(tmp_path: Path, stand_in: StandIn) -> None:
    class Elsewhere(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(302)
            self.send_header("Location", f"{stand_in.url}/graphql")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's name
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        account = ladder(tmp_path, WANDB_API_KEY="operator").account(f"http://127.0.0.1:{server.server_address[1]}")
        server.shutdown()
        thread.join()
    assert account.reason.endswith("answered with status 302")
    assert stand_in.asked == []


def test_an_address_that_is_none_of_a_web_server_is_not_opened(tmp_path: Path) -> None:
    assert "not the address of a web server" in ladder(tmp_path).account("file:///etc").reason
