"""Serves pages and metrics over HTTP, from threads beside the gRPC server."""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
import time
from collections.abc import Callable, Mapping
from http.cookies import CookieError, SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar, Protocol
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from tunevane import log
from tunevane.errors import ConfigurationError, NotFoundError
from tunevane_tracker.config import is_loopback
from tunevane_tracker.page.document import POLICY, Document
from tunevane_tracker.page.site import Query

_log = log.get("tracker.http")

COOKIE = "tunevane_token"
HTML = "text/html; charset=utf-8"
TEXT = "text/plain; charset=utf-8"
EVENTS = "text/event-stream"

HEADERS = {
    "Content-Security-Policy": POLICY,
    # Nobody frames the page, no link tells where it came from.
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",
}

MAX_STREAMS = 100
"""Pages that are told of news at the same time; a further one asks again later."""

LOOK_SECONDS = 0.4
"""How often a watched page is looked at for news."""

MAKING_SHARE = 10.0
"""How many times longer the pause after making a page is than making it took."""

RENEW_SECONDS = 5.0
"""How often it is made anew without news: times pass, and mirrors catch up. Also shows that the reader is there."""


class Site(Protocol):
    """The pages; the functions are called from several threads."""

    def page(self, path: str, query: Query) -> Document:
        """Returns a page, or raises `NotFoundError`."""

    def stamp(self, path: str, query: Query) -> object:
        """Returns what differs when a page has news, or raises `NotFoundError`."""

    def missing(self, message: str) -> Document:
        """Returns the page for an address where nothing is."""


class Pages:
    """What the server shows, and to whom."""

    def __init__(
        self,
        registry: CollectorRegistry,
        healthy: Callable[[], bool],
        site: Site,
        token: str | None,
        detail: Callable[[], str] = str,
        public_host: str | None = None,
    ) -> None:
        """Takes what is shown.

        Args:
            registry: The metrics.
            healthy: Tells whether the service is healthy.
            site: The pages.
            token: What opens the pages; None leaves them open to this machine.
            detail: Gives a sentence about what a healthy service has lost; empty for nothing.
            public_host: Name by which people reach the pages, if not by one of this machine's own.

        """
        self.registry = registry
        self.healthy = healthy
        self.detail = detail
        self.site = site
        self.token = token
        self.public_host = public_host
        # The cookie opens the pages and nothing else, and has no characters that a cookie may not have.
        self.cookie = None if token is None else hmac.digest(token.encode(), b"cookie", hashlib.sha256).hex()
        self.closing = threading.Event()
        self.streams = threading.BoundedSemaphore(MAX_STREAMS)


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
        self._pages = pages
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="http", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stops listening; pages that are watched are told to ask again."""
        self._pages.closing.set()
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
    # A client that sends or takes nothing does not keep its thread.
    timeout = 30

    def do_GET(self) -> None:
        try:
            self._route()
        except NotFoundError as error:
            self._answer(404, HTML, self.served.site.missing(error.message).html().encode())
        except (ConnectionError, TimeoutError):
            self.close_connection = True
        except Exception:
            _log.exception("page failed")
            self._answer(500, TEXT, b"Something unexpected happened; the tracker's log has it.\n")

    do_HEAD = do_GET  # noqa: N815 - http.server's name

    def _route(self) -> None:
        address = urlsplit(self.path)
        path, query = unquote(address.path), parse_qs(address.query)
        if path == "/metrics":
            encode, content_type = choose_encoder(self.headers.get("Accept", ""))
            self._answer(200, content_type, encode(self.served.registry))
        elif path == "/healthz":
            healthy = self.served.healthy()
            told = {"status": "serving" if healthy else "not serving", "detail": self.served.detail()}
            body = json.dumps({name: text for name, text in told.items() if text}).encode() + b"\n"
            self._answer(200 if healthy else 503, "application/json", body)
        elif not self.allowed:
            self._answer(403, TEXT, b"Outside loopback the pages need a token: set TUNEVANE_TRACKER_HTTP_TOKEN.\n")
        elif not self._knows_host():
            self._answer(
                403, TEXT, b"Without a token this answers to localhost only: set TUNEVANE_TRACKER_PUBLIC_URL.\n"
            )
        elif "token" in query and self._matches(query["token"][0], self.served.token):
            self._let_in(address.path, query)
        elif not self._knows_token():
            self._answer(
                401,
                TEXT,
                b"This page needs the tracker's token: open it with ?token=<token>, or send Authorization: Bearer.\n",
                {"WWW-Authenticate": 'Bearer realm="tunevane"'},
            )
        elif path == "/":
            self._answer(303, TEXT, b"", {"Location": "/runs"})
        elif EVENTS in self.headers.get("Accept", ""):
            self._stream(path, query)
        else:
            self._answer(200, HTML, self.served.site.page(path, query).html().encode())

    def _let_in(self, path: str, query: Query) -> None:
        """Moves the token from the address, where it would be seen and kept, into a cookie."""
        rest = urlencode({name: values for name, values in query.items() if name != "token"}, doseq=True)
        # One slash at the front: two would name another host.
        location = "/" + path.lstrip("/\\") + (f"?{rest}" if rest else "")
        cookie = f"{COOKIE}={self.served.cookie}; Path=/; HttpOnly; SameSite=Strict"
        self._answer(303, TEXT, b"", {"Location": location, "Set-Cookie": cookie})

    def _stream(self, path: str, query: Query) -> None:
        """Tells a page what changes on it, until it ends or the reader leaves."""
        self.served.site.stamp(path, query)
        if not self.served.streams.acquire(blocking=False):
            self._answer(503, TEXT, b"Too many pages are open; this one asks again.\n", {"Retry-After": "10"})
            return
        try:
            # Its length is not known, so that the connection ends with it.
            self.close_connection = True
            self._head(200, EVENTS, {"Connection": "close"})
            if self.command != "HEAD":
                self._tell(path, query, self.headers.get("Last-Event-ID") or query.get("since", [""])[0])
        except NotFoundError:
            _log.debug("a watched run is gone")
        finally:
            self.served.streams.release()

    def _tell(self, path: str, query: Query, version: str) -> None:
        site, sent, stamp, made = self.served.site, dict[str, str](), object(), float("-inf")
        pause = 0.0
        self._write("retry: 1000\n\n")
        while not self.served.closing.wait(pause):
            pause = LOOK_SECONDS
            now = time.monotonic()
            current = site.stamp(path, query)
            if current == stamp and now - made < RENEW_SECONDS:
                continue
            stamp, made = current, now
            page = site.page(path, query)
            # A page that takes long to make is made less often.
            pause = max(LOOK_SECONDS, MAKING_SHARE * (time.monotonic() - now))
            if page.version == version:
                # The reader has all of it; a comment shows whether there still is a reader.
                self._write(":\n\n")
            else:
                self._write(f"id: {page.version}\ndata: {json.dumps(page.changes(sent))}\n\n")
            sent, version = page.versions, page.version
            if not page.live:
                self._write("event: end\ndata:\n\n")
                return

    def _write(self, text: str) -> None:
        self.wfile.write(text.encode())

    def _matches(self, given: str, wanted: str | None) -> bool:
        return wanted is not None and hmac.compare_digest(given.encode(), wanted.encode())

    def _knows_token(self) -> bool:
        if self.served.token is None:
            return True
        scheme, _, given = self.headers.get("Authorization", "").partition(" ")
        try:
            cookie = SimpleCookie(self.headers.get("Cookie", "")).get(COOKIE)
        except CookieError:
            cookie = None
        bearer = scheme.lower() == "bearer" and self._matches(given.strip(), self.served.token)
        return bearer or (cookie is not None and self._matches(cookie.value, self.served.cookie))

    def _knows_host(self) -> bool:
        """Tells whether the page was asked for by a name that is ours.

        Another's name may be made to point at this machine, and then scripts of theirs could read open pages.
        """
        if self.served.token is not None:
            return True
        try:
            host = urlsplit("//" + self.headers.get("Host", "")).hostname or ""
        except ValueError:
            return False
        return is_loopback(host) or host.endswith(".localhost") or host == self.served.public_host

    def _head(self, status: int, content_type: str, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        for name, value in {**HEADERS, **headers}.items():
            self.send_header(name, value)
        self.end_headers()

    def _answer(self, status: int, content_type: str, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self._head(status, content_type, {"Content-Length": str(len(body)), **(headers or {})})
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's name
        """Says nothing: a request line may hold a token."""
