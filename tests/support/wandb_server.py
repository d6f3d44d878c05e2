"""A small stand-in for the server of Weights & Biases, with faults: it keeps what a run sends it."""

from __future__ import annotations

import base64
import gzip
import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

ANONYMOUS_KEY = "a" * 40
KEY_LETTERS = "abcdefgh"


@dataclass
class Fault:
    """Something that goes wrong with some requests."""

    operation: str
    """Which: a GraphQL operation, `file_stream`, `upload`, or `*` for all."""

    how: Literal["answer", "cut", "lose", "nothing"] = "answer"
    """`answer` refuses with `status`, `cut` closes the connection, `lose` does what was asked and then closes it,
    `nothing` answers with nothing in it."""

    status: int = 500
    """Status of the refusal; its text repeats the key, as a careless server might."""

    times: int = 1
    """How many requests."""

    after: int = 0
    """So many are let through before."""

    def strikes(self, operation: str) -> bool:
        """Tells whether a request of an operation meets the fault, and counts it."""
        if self.operation not in (operation, "*") or self.times <= 0:
            return False
        if self.after > 0:
            self.after -= 1
            return False
        self.times -= 1
        return True


@dataclass
class WandbServer:
    """What the server has, and how it behaves."""

    url: str = ""
    """Where it listens."""

    anonymous: bool = True
    """Whether it makes anonymous accounts."""

    accounts: set[str] = field(default_factory=set)
    """Keys of accounts that are not anonymous; others are refused with 401."""

    faults: list[Fault] = field(default_factory=list)
    """What goes wrong, besides."""

    away: bool = False
    """Whether it closes every connection at once."""

    stopped: bool = False
    """Whether somebody pressed the Stop button."""

    made: list[str] = field(default_factory=list)
    """Anonymous keys that were handed out."""

    revoked: set[str] = field(default_factory=set)
    """Anonymous keys that no longer work."""

    history: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """Rows by entity and run, by line number."""

    summaries: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Summary by entity and run."""

    complete: dict[str, int] = field(default_factory=dict)
    """Exit code by entity and run, of those that were finished."""

    keys: list[str] = field(default_factory=list)
    """Keys of the requests that carried one."""

    operations: list[str] = field(default_factory=list)
    """GraphQL operations, in order."""

    requests: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    """Operations with their variables."""

    bodies: list[str] = field(default_factory=list)
    """Everything that was sent."""

    first_row: threading.Event = field(default_factory=threading.Event)
    """Set when any row arrived."""

    moved: threading.Event = field(default_factory=threading.Event)
    """Set at every request."""

    failures: int = 0
    """Requests that met a fault."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    """Guards the above."""

    def knows(self, key: str) -> bool:
        """Tells whether a key works."""
        return key in self.accounts or (key in self.made and key not in self.revoked)

    def entity(self, key: str) -> str:
        """Names the account of a key."""
        return f"anon-{self.made.index(key) + 1}" if key in self.made else "team"

    def graphql(self, operation: str, variables: dict[str, Any], key: str) -> dict[str, Any]:
        """Answers a query by its operation."""
        self.operations.append(operation)
        self.requests.append((operation, variables))
        entity = self.entity(key)
        run = f"{variables.get('entity') or entity}/{variables.get('name', '')}"
        if operation == "CreateAnonymousApiKey":
            if not self.anonymous:
                return {"createAnonymousEntity": None}
            self.made.append(KEY_LETTERS[len(self.made)] * 40)
            return {"createAnonymousEntity": {"apiKey": {"name": self.made[-1]}}}
        if operation == "Viewer":
            viewer = {"id": "dXNlcg==", "entity": entity, "username": "user", "flags": "{}", "teams": {"edges": []}}
            versions = {"cliVersionInfo": {"max_cli_version": "0.99.0"}, "latestLocalVersionInfo": None}
            return {"viewer": viewer, "serverInfo": versions}
        if operation == "UpsertBucket":
            return {"upsertBucket": {"bucket": self._bucket(run), "inserted": True}}
        if operation == "RunResumeStatus":
            bucket = self._status(run) if run in self.history else None
            return {"model": {"id": "cHJvamVjdA==", "name": "tunevane", "bucket": bucket}}
        if operation == "CreateRunFiles":
            files = [{"name": name, "uploadUrl": f"{self.url}/upload/{name}"} for name in variables.get("files", [])]
            return {"createRunFiles": {"runID": "cnVu", "uploadHeaders": [], "files": files}}
        if operation == "ArtifactType":
            return {"project": {"artifact": None}}
        if operation == "CreateArtifact":
            artifact = {"id": "YXJ0", "state": "COMMITTED", "artifactSequence": {"id": "c2Vx", "latestArtifact": None}}
            return {"createArtifact": {"artifact": artifact}}
        return {}

    def rows(self, run: str) -> list[dict[str, Any]]:
        """Returns the rows of a run at the account that has it now, without what wandb adds to them."""
        with self.lock:
            places = [place for place in self.history if place.endswith(f"/{run}")]
            return [
                {name: value for name, value in row.items() if name != "_runtime"}
                for row in (self.history[max(places)] if places else [])
            ]

    def stream(self, run: str, body: dict[str, Any]) -> None:
        """Stores what a run streams."""
        files = body.get("files", {})
        part = files.get("wandb-history.jsonl")
        rows = self.history.setdefault(run, [])
        if part is not None:
            rows[part["offset"] :] = [json.loads(line) for line in part["content"]]
            self.first_row.set()
        if (part := files.get("wandb-summary.json")) is not None:
            self.summaries[run] = json.loads(part["content"][-1])
        if body.get("complete"):
            self.complete[run] = int(body.get("exitcode", 0))

    def _bucket(self, run: str) -> dict[str, Any]:
        entity, _, name = run.partition("/")
        project = {"id": "cHJvamVjdA==", "name": "tunevane", "entity": {"id": "ZW50aXR5", "name": entity}}
        lines = len(self.history.setdefault(run, []))
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

    def _status(self, run: str) -> dict[str, Any]:
        rows = self.history[run]
        return {
            **self._bucket(run),
            "historyTail": json.dumps([json.dumps(rows[-1])] if rows else []),
            "eventsTail": "[]",
            "summaryMetrics": json.dumps(self.summaries.get(run, {})),
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
                text = gzip.decompress(text)
            body = json.loads(text or b"{}")
            streamed = re.fullmatch(r"/files/([^/]+)/[^/]+/([^/]+)/file_stream", self.path)
            found = re.search(r"(?:query|mutation)\s+(\w+)", body.get("query", "") or "")
            # wandb 0.27 asks for the viewer without a name.
            named = found[1] if found else "Viewer" if "viewer" in str(body.get("query")) else ""
            operation = "file_stream" if streamed else named
            key = self.key()

            def do() -> dict[str, Any]:
                server.bodies.append(text.decode())
                if streamed:
                    server.stream(f"{streamed[1]}/{streamed[2]}", body)
                    return {"stopped": True} if server.stopped else {}
                return {"data": server.graphql(operation, body.get("variables") or {}, key)}

            self.handle_one(operation, key, do)

        def do_GET(self) -> None:
            self.answer(404, {})

        def do_PUT(self) -> None:
            content = self.rfile.read(int(self.headers.get("Content-Length", 0)))

            def do() -> dict[str, Any]:
                server.bodies.append(content.decode(errors="replace"))
                return {}

            self.handle_one("upload", None, do)

        def key(self) -> str:
            scheme, _, token = self.headers.get("Authorization", "").partition(" ")
            return base64.b64decode(token).decode().removeprefix("api:") if scheme == "Basic" else ""

        def handle_one(self, operation: str, key: str | None, do: Callable[[], dict[str, Any]]) -> None:
            server.moved.set()
            with server.lock:
                if key:
                    server.keys.append(key)
                fault = next((each for each in server.faults if each.strikes(operation)), None)
                cut = server.away or (fault is not None and fault.how in ("cut", "lose"))
                server.failures += cut or fault is not None
                status, answer = 0, dict[str, Any]()
                if server.away or (fault is not None and fault.how == "cut"):
                    pass
                elif fault is not None and fault.how == "nothing":
                    status, answer = 200, {"data": {}}
                elif fault is not None and fault.how == "answer":
                    status, answer = fault.status, {"error": f"key {key} is not welcome", "errors": [{"message": key}]}
                elif key is not None and operation != "CreateAnonymousApiKey" and not server.knows(key):
                    status, answer = 401, {"errors": [{"message": f"no such key: {key}"}]}
                else:
                    status, answer = 200, do()
            if cut:
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            self.answer(status, answer)

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
