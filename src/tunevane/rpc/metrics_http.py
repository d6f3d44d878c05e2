"""Serves `/metrics` and `/healthz` over HTTP, from threads beside a gRPC server."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from socketserver import TCPServer
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer

from tunevane import log
from tunevane.errors import ConfigurationError

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

_log = log.get("metrics")


class _Handler(WSGIRequestHandler):
    # A client that sends nothing does not keep its thread.
    timeout = 30

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # http.server's name
        """Says nothing: Prometheus comes every few seconds."""


class _Server(ThreadingWSGIServer):
    allow_reuse_port = False
    request_queue_size = 64

    def server_bind(self) -> None:
        """Binds without asking a name service who we are, which takes seconds where there is none."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keeps a client that went away out of the log."""
        _log.debug("connection broke off", exc_info=True)


def _application(registry: CollectorRegistry) -> WSGIApplication:
    metrics: WSGIApplication = make_wsgi_app(registry)  # type: ignore[no-untyped-call,unused-ignore]

    def serve(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path == "/metrics":
            return metrics(environ, start_response)
        status, body = ("200 OK", b"serving\n") if path == "/healthz" else ("404 Not Found", b"see /metrics\n")
        start_response(status, [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))])
        return [body]

    return serve


@contextmanager
def exposed(service: str, host: str, port: int | None, registry: CollectorRegistry) -> Iterator[int | None]:
    """Serves a registry until the block ends.

    Args:
        service: Name for the log.
        host: Address to listen on.
        port: Port to listen on; 0 lets the system choose, None serves nothing.
        registry: What is shown.

    Yields:
        The port; None when nothing is served.

    Raises:
        ConfigurationError: The port is in use, or the address is none of this machine's.

    """
    if port is None:
        yield None
        return
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        kind = type("_FamilyServer", (_Server,), {"address_family": family})
        server: WSGIServer = make_server(host, port, _application(registry), kind, _Handler)
    except OSError as error:
        raise ConfigurationError(
            f"the {service} cannot show its metrics on {host}, port {port} ({error.strerror or error}); choose another"
            " with the settings metrics_host and metrics_port"
        ) from error
    thread = threading.Thread(target=server.serve_forever, name="metrics", daemon=True)
    thread.start()
    _log.info("metrics service=%s address=%s:%d", service, host, server.server_port)
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
