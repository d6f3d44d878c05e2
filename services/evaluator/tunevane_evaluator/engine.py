"""Where vectors are searched: a Qdrant server, the embedded engine in a child process, or this process's memory."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from tunevane import log
from tunevane.core.search_settings import SearchSettings
from tunevane.errors import ConfigurationError, EvaluationFailedError
from tunevane_evaluator.config import EvaluatorConfig

# Torch and qdrant-client take seconds to import, so the methods that need them do it.
if TYPE_CHECKING:
    from tunevane_evaluator.index.child import EdgeProcess
    from tunevane_evaluator.index.connection import QdrantConnection
    from tunevane_evaluator.index.port import VectorIndex
    from tunevane_evaluator.searches import OpenIndex

_log = log.get("engine")


class Engine:
    """Opens indexes; starts the embedded engine, or connects, when it is first needed."""

    def __init__(self, config: EvaluatorConfig) -> None:
        """Args: the settings."""
        self._config = config
        self._edge: EdgeProcess | None = None
        self._server: QdrantConnection | None = None

    @property
    def pid(self) -> int | None:
        """Process id of the embedded engine; None before its first use, or without one."""
        return None if self._edge is None else self._edge.pid

    def opener(self, label: str, check: Callable[[], None]) -> OpenIndex:
        """Returns what opens indexes for one evaluation.

        Args:
            label: For the names of collections.
            check: Asked while something is waited for; raises to give up.

        Raises:
            UnavailableError: The engine does not answer.
            EvaluationFailedError: It is too old, or refuses us.

        """
        if self._config.search_engine == "torch":
            return self._in_memory
        from tunevane_evaluator.index.qdrant import QdrantIndex

        connection = self._connection()

        def open_index(euclidean: bool, settings: SearchSettings) -> VectorIndex:
            return QdrantIndex(connection, label, euclidean=euclidean, settings=settings, check=check)

        return open_index

    def _in_memory(self, euclidean: bool, settings: SearchSettings) -> VectorIndex:
        if not settings.is_exact:
            raise EvaluationFailedError(
                f"'{settings.name}' needs Qdrant, and this evaluator has the setting search_engine=torch;"
                " set it to qdrant"
            )
        from tunevane.nn.device import choose
        from tunevane_evaluator.index.torch_index import TorchIndex

        return TorchIndex(euclidean=euclidean, device=choose(self._config.device))

    def _connection(self) -> QdrantConnection:
        """Returns a connection to the server, or to a living engine of our own."""
        if self._config.qdrant_url is None:
            if self._edge is None:
                from tunevane_evaluator.index.child import EdgeProcess

                self._edge = EdgeProcess(self._config.state_dir / "edge")
            return self._edge.connection()
        if self._server is None:
            self._server = self._connect(self._config.qdrant_url)
        return self._server

    def _connect(self, url: str) -> QdrantConnection:
        from tunevane_evaluator.index.connection import QdrantConnection, parse_url

        address = parse_url(url, self._config.qdrant_api_key, self._roots())
        if address.api_key and not address.tls:
            _log.warning("the API key travels readable to qdrant=%s; write https:// to encrypt it", address.target)
        connection = QdrantConnection(address)
        try:
            version = connection.check()
            swept = connection.sweep(time.time())
        except BaseException:
            connection.close()
            raise
        _log.info("connected qdrant=%s version=%s leftovers_dropped=%d", address.target, version, len(swept))
        return connection

    def _roots(self) -> bytes | None:
        place = self._config.qdrant_ca_file
        if place is None:
            return None
        try:
            return place.read_bytes()
        except OSError as error:
            raise ConfigurationError(f"the setting qdrant_ca_file names {place}: {error.strerror}") from error

    def close(self) -> None:
        """Ends the embedded engine, or the connection."""
        if self._edge is not None:
            self._edge.close()
        if self._server is not None:
            self._server.close()
