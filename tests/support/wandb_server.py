"""A small stand-in for the server of Weights & Biases, with faults: it keeps what a run sends it."""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ANONYMOUS_KEY = "a" * 40


@dataclass
class WandbServer:
    """What the server has, and how it behaves."""

    url: str = ""
    """Where it listens."""

    anonymous: bool = True
    """Whether it makes anonymous accounts."""

    refuse_uploads: int = 0
    """So many uploads of history are answered with 500 although they were stored."""

    history: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """Rows by run, by line number."""

    keys: list[str] = field(default_factory=list)
    """Keys of the requests that carried one."""

    operations: list[str] = field(default_factory=list)
    """GraphQL operations, in order."""

    bodies: list[str] = field(default_factory=list)
    """Everything that was sent."""

    first_row: threading.Event = field(default_factory=threading.Event)
    """Set when any row arrived."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    """Guards the above."""

    def graphql(self, body: dict[str, Any]) -> dict[str, Any]:
        """Answers a query by its operation."""
        query, variables = body.get("query", ""), body.get("variables") or {}
        found = re.search(r"(?:query|mutation)\s+(\w+)", query)
        operation = found[1] if found else ""
        self.operations.append(operation)
        if operation == "CreateAnonymousApiKey":
            made = {"apiKey": {"name": ANONYMOUS_KEY}} if self.anonymous else None
            return {"createAnonymousEntity": made}
        if operation == "Viewer":
            viewer = {"id": "dXNlcg==", "entity": "anon", "username": "anon", "flags": "{}", "teams": {"edges": []}}
            return {"viewer": viewer}
        if operation == "UpsertBucket":
            return {"upsertBucket": {"bucket": self._bucket(variables.get("name", "")), "inserted": True}}
        if operation == "RunResumeStatus":
            name = variables.get("name", "")
            known = name in self.history
            return {
                "model": {"id": "cHJvamVjdA==", "name": "tunevane", "bucket": self._status(name) if known else None}
            }
        if operation == "CreateRunFiles":
            files = [{"name": name, "uploadUrl": f"{self.url}/upload/{name}"} for name in variables.get("files", [])]
            return {"createRunFiles": {"runID": "cnVu", "uploadHeaders": [], "files": files}}
        return {}

    def stream(self, run: str, body: dict[str, Any]) -> int:
        """Stores what a run streams and returns the status of the answer."""
        part = body.get("files", {}).get("wandb-history.jsonl")
        rows = self.history.setdefault(run, [])
        if part is not None:
            lines = [json.loads(line) for line in part["content"]]
            rows[part["offset"] :] = lines
            self.first_row.set()
            if self.refuse_uploads > 0:
                self.refuse_uploads -= 1
                return 500
        return 200

    def _bucket(self, name: str) -> dict[str, Any]:
        project = {"id": "cHJvamVjdA==", "name": "tunevane", "entity": {"id": "ZW50aXR5", "name": "anon"}}
        lines = len(self.history.setdefault(name, []))
        return {
            "id": "cnVu",
            "name": name,
            "displayName": name,
            "description": "",
            "config": "{}",
            "sweepName": None,
            "historyLineCount": lines,
            "project": project,
        }

    def _status(self, name: str) -> dict[str, Any]:
        rows = self.history[name]
        return {
            **self._bucket(name),
            "historyTail": json.dumps([json.dumps(rows[-1])] if rows else []),
            "eventsTail": "[]",
            "summaryMetrics": json.dumps(rows[-1] if rows else {}),
            "logLineCount": 0,
            "eventsLineCount": 0,
            "wandbConfig": '{"t": {"value": 1}}',
            "config": "{}",
            "tags": [],
        }


@contextmanager
def wandb_server(**behaviour: Any) -> Iterator[WandbServer]:
    """Runs a server until the block ends."""
    server = WandbServer(**behaviour)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            text = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if self.headers.get("Content-Encoding") == "gzip":
                import gzip

                text = gzip.decompress(text)
            body = json.loads(text or b"{}")
            with server.lock:
                scheme, _, token = self.headers.get("Authorization", "").partition(" ")
                if scheme == "Basic":
                    server.keys.append(base64.b64decode(token).decode().removeprefix("api:"))
                server.bodies.append(text.decode())
                status, answer = 200, {}
                if self.path == "/graphql":
                    answer = {"data": server.graphql(body)}
                elif match := re.fullmatch(r"/files/[^/]+/[^/]+/([^/]+)/file_stream", self.path):
                    status = server.stream(match[1], body)
            self.answer(status, answer)

        def do_GET(self) -> None:
            self.answer(404, {})

        def do_PUT(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.answer(200, {})

        def answer(self, status: int, body: dict[str, Any]) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's name
            pass

    class Quiet(ThreadingHTTPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            """Expects clients to be killed."""

    http = Quiet(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    server.url = f"http://127.0.0.1:{http.server_address[1]}"
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
        thread.join()
