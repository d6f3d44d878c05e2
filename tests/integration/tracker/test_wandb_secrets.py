"""Keys and claim links are in the run's own log and nowhere else, however the server answers."""

from __future__ import annotations

import base64
import logging
import os
import random
import socket
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from support.tracker_service import UID, eventually, tracker
from support.wandb_runs import CONFIG, RUN, settings
from support.wandb_server import Fault, wandb_server
from tunevane.api.tracker.v1 import tracker_service_pb2 as pb
from tunevane_tracker import service
from tunevane_tracker.delivery import Delivery
from tunevane_tracker.sinks.wandb.graphql import AwayError, RefusedError, anonymous_key, check_key, stored
from tunevane_tracker.sinks.wandb.ladder import Ladder

KEY = "5ecretkey" * 4 + "5ecr"
TRACES = (KEY, base64.b64encode(f"api:{KEY}".encode()).decode())
REQUESTS = 1000


@contextmanager
def careless_server(draw: random.Random) -> Iterator[str]:
    """Answers every request in another wrong way, and repeats what it was sent wherever it can."""
    listener = socket.create_server(("127.0.0.1", 0))

    def answer(connection: socket.socket) -> None:
        with connection:
            asked = connection.recv(65536)
            secret = f"{KEY} {TRACES[1]} {asked.decode(errors='replace').replace(chr(13), ' ').replace(chr(10), ' ')}"
            body = f'{{"errors": [{{"message": "{KEY}"}}], "data": {{"viewer": null, "key": "{KEY}"}}}}'
            kinds = [
                f"HTTP/1.1 {draw.choice([400, 401, 403, 404, 429, 500, 503])} {secret}\r\n\r\n{body}",
                f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n{body}",
                f"{secret}\r\n\r\n",
                f"HTTP/1.1 {secret}\r\n\r\n",
                f"HTTP/1.1 302 Found\r\nLocation: ftp://{KEY}@localhost/\r\n\r\n",
                f"HTTP/1.1 200 OK\r\n{secret}\r\n\r\n<html>{secret}",
                f"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n{secret}",
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + secret,
                "",
            ]
            connection.sendall(draw.choice(kinds).encode())

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            answer(connection)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"http://operator:{KEY}@127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def test_a_thousand_failing_requests_leave_no_trace_of_the_key(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    texts = []
    with careless_server(random.Random(7)) as url:
        ladder = Ladder(tmp_path, {"WANDB_API_KEY": KEY, "HOME": str(tmp_path)}, lambda: 0.0)
        for number in range(REQUESTS):
            questions: list[Callable[[], object]] = [
                partial(check_key, url, KEY),
                partial(anonymous_key, url),
                partial(stored, url, KEY, "entity", "project", "run"),
                partial(ladder.account, url),
            ]
            try:
                texts.append(repr(questions[number % 4]()))
            except (AwayError, RefusedError) as error:
                texts += [str(error), repr(error), "".join(traceback.format_exception(error))]
            ladder.forget()
    assert sum("offline" in text for text in texts) == REQUESTS / 4
    assert sum("Error" in text for text in texts) > REQUESTS
    for text in [*texts, caplog.text]:
        assert not any(trace in text for trace in TRACES)


def test_a_tracker_whose_server_refuses_everything_shows_no_key_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("wandb")
    caplog.set_level(logging.DEBUG)
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setattr(service, "Delivery", partial(Delivery, first_wait_seconds=0.1))
    state = tmp_path / "state"
    shown = []
    with wandb_server(accounts={KEY}) as server, tracker(settings(state, server)) as served:
        for operation, status in (("UpsertBucket", 400), ("RunResumeStatus", 403), ("file_stream", 401)):
            server.faults.append(Fault(operation, "answer", status))
        shown += list(served.publish(RUN, CONFIG).notices)
        look = pb.GetTrackedRunRequest(run=f"runs/{UID}")
        while served.delivered("wandb") < len(RUN):
            shown.append(str(served.stub.GetTrackedRun(look)))
            shown += [served.get(path)[1] for path in ("/metrics", "/runs", "/runs/some-run")]
            server.moved.clear()
            server.moved.wait(1.0)
        eventually(lambda: served.delivered("wandb") == len(RUN))
        shown += list(served.publish([]).notices)
        assert server.failures == 3
    files = {path: path.read_bytes() for path in state.rglob("*") if path.is_file()}
    assert any(path.suffix == ".sqlite" for path in files)
    for trace in TRACES:
        assert not any(trace in text for text in [*shown, caplog.text])
        assert [path for path, content in files.items() if trace.encode() in content] == []
