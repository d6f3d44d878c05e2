"""Serves pages and metrics over HTTP, from threads beside the gRPC server."""

from __future__ import annotations

import hmac
import json
import threading
from collections.abc import Callable
from http.cookies import CookieError, SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import parse_qs, unquote, urlsplit

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from tunevane import log
from tunevane.errors import ConfigurationError, NotFoundError
from tunevane_tracker.config import is_loopback

_log = log.get("tracker.http")

COOKIE = "tunevane_token"
HTML = "text/html; charset=utf-8"
TEXT = "text/plain; charset=utf-8"

HEADERS = {
    # Nothing is loaded from elsewhere, no script runs, nobody frames the page, no link tells where it came from.
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


class Pages:
    """What the server shows; the functions are called from its threads."""

    def __init__(
        self,
        registry: CollectorRegistry,
        healthy: Callable[[], bool],
        listing: Callable[[], str],
        run: Callable[[str], str],
        missing: Callable[[str], str],
        token: str | None,
    ) -> None:
        """Takes a function for each page; `run` raises `NotFoundError` for an unknown run."""
        self.registry = registry
        self.healthy = healthy
        self.listing = listing
        self.run = run
        self.missing = missing
        self.token = token


class HttpServer:
    """The HTTP server in its thread."""

    def __init__(self, host: str, port: int, pages: Pages) -> None:
        """Listens at once.

        Raises:
            ConfigurationError: The port is in use, or the address is none of this machine's.

        """
        open_ = is_loopback(host) or pages.token is not None

        class Handler(_Handler):
            served = pages
            allowed = open_

        try:
            self._server = _Server((host, port), Handler)
        except OSError as error:
            raise ConfigurationError(
                f"the tracker cannot serve its pages on {host}:{port} ({error.strerror}); "
                "choose another http_port or http_host"
            ) from error
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, name="http", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stops listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_port = False
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keeps a client that went away out of the log."""
        _log.debug("connection broke off", exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    served: ClassVar[Pages]
    allowed: ClassVar[bool]
    protocol_version = "HTTP/1.1"
    server_version = "tunevane"
    sys_version = ""
    # A client that sends nothing does not keep its thread.
    timeout = 30

    def do_GET(self) -> None:
        try:
            self._route()
        except NotFoundError as error:
            self._answer(404, HTML, self.served.missing(error.message).encode())
        except ConnectionError:
            self.close_connection = True
        except Exception:
            _log.exception("page failed")
            self._answer(500, TEXT, b"Something unexpected happened; the tracker's log has it.\n")

    do_HEAD = do_GET  # noqa: N815 - http.server's name

    def _route(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if path == "/metrics":
            encode, content_type = choose_encoder(self.headers.get("Accept", ""))
            self._answer(200, content_type, encode(self.served.registry))
        elif path == "/healthz":
            healthy = self.served.healthy()
            body = json.dumps({"status": "serving" if healthy else "not serving"}).encode() + b"\n"
            self._answer(200 if healthy else 503, "application/json", body)
        elif not self.allowed:
            self._answer(403, TEXT, b"Outside loopback the pages need a token: set TUNEVANE_TRACKER_HTTP_TOKEN.\n")
        elif self._asked_with_token():
            cookie = f"{COOKIE}={self.served.token}; Path=/; HttpOnly; SameSite=Strict"
            self._answer(303, TEXT, b"", {"Location": urlsplit(self.path).path, "Set-Cookie": cookie})
        elif not self._knows_token():
            self._answer(401, TEXT, b"Open this page with ?token=<the tracker's token>.\n")
        elif path == "/":
            self._answer(303, TEXT, b"", {"Location": "/runs"})
        elif path in {"/runs", "/runs/"}:
            self._answer(200, HTML, self.served.listing().encode())
        elif path.startswith("/runs/") and path.count("/") == 2:
            self._answer(200, HTML, self.served.run(path.removeprefix("/runs/")).encode())
        else:
            raise NotFoundError("there is no such page")

    def _matches(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), (self.served.token or "").encode())

    def _asked_with_token(self) -> bool:
        given = parse_qs(urlsplit(self.path).query).get("token", [""])[0]
        return self.served.token is not None and self._matches(given)

    def _knows_token(self) -> bool:
        if self.served.token is None:
            return True
        header = self.headers.get("Authorization", "").removeprefix("Bearer ")
        try:
            cookie = SimpleCookie(self.headers.get("Cookie", "")).get(COOKIE)
        except CookieError:
            cookie = None
        return self._matches(header) or (cookie is not None and self._matches(cookie.value))

    def _answer(self, status: int, content_type: str, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        for name, value in {**HEADERS, **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's name
        """Says nothing: a request line may hold a token."""
