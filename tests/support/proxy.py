"""A TCP proxy that breaks connections on purpose."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Proxy:
    """Forwards to a target on this machine; faults apply to bytes from client to server."""

    def __init__(self, target: str) -> None:
        host, port = target.rsplit(":", 1)
        self._target = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.target = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.cut_after: list[int] = []
        """For each coming connection, bytes after which it is cut; connections after the last are whole."""
        self.flip_at: int | None = None
        """Offset in each connection of the byte in which one bit is flipped."""
        self.passed: list[int] = []
        """For each connection, bytes that went from client to server."""
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def _start(self, work: object, *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments)  # type: ignore[arg-type]  # any callable
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.passed.append(0)
            server = socket.create_connection(self._target)
            self._open += [client, server]
            limit = self.cut_after.pop(0) if self.cut_after else None
            self._start(self._forward, client, server, len(self.passed) - 1, limit, self.flip_at)
            self._start(self._forward, server, client, None, None, None)

    def _forward(
        self,
        source: socket.socket,
        sink: socket.socket,
        number: int | None,
        limit: int | None,
        flip_at: int | None,
    ) -> None:
        passed = 0
        with suppress(OSError):
            while data := source.recv(65536):
                if limit is not None and passed + len(data) > limit:
                    break
                if flip_at is not None and passed <= flip_at < passed + len(data):
                    changed = bytearray(data)
                    changed[flip_at - passed] ^= 1
                    data = bytes(changed)
                sink.sendall(data)
                passed += len(data)
                if number is not None:
                    self.passed[number] = passed
        for each in (source, sink):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def break_all(self) -> None:
        """Breaks every connection that is open now."""
        for each in self._open:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Breaks every connection and waits for the threads."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._threads[0].join(10)
        self.break_all()
        for thread in self._threads:
            thread.join(10)
        for each in self._open:
            each.close()


@contextmanager
def proxied(target: str) -> Iterator[Proxy]:
    """Runs a proxy in front of a target until the block ends."""
    proxy = Proxy(target)
    try:
        yield proxy
    finally:
        proxy.close()
