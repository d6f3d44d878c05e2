"""One connection to a trainer service, and the typed calls on it."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tunevane.api.data.v1 import dataset_service_pb2, dataset_service_pb2_grpc
from tunevane.api.trainer.v1 import run_pb2, trainer_service_pb2, trainer_service_pb2_grpc
from tunevane.api.type.v1 import event_pb2
from tunevane.errors import UnavailableError
from tunevane.rpc.blob_client import BlobClient
from tunevane.rpc.channel import connect
from tunevane.storage.blobs import BlobStore


class Connection:
    """A trainer service."""

    def __init__(self, target: str) -> None:
        """Opens the channel.

        Args:
            target: Address, for example `127.0.0.1:50051`.

        """
        self.target = target
        self._channel = channel = connect(target)
        self.trainer = trainer_service_pb2_grpc.TrainerServiceStub(channel)
        self.datasets = dataset_service_pb2_grpc.DatasetServiceStub(channel)
        self.blobs = BlobClient(channel)
        self._scratch = tempfile.TemporaryDirectory(prefix="tunevane-client-", ignore_cleanup_errors=True)
        self.store = BlobStore(Path(self._scratch.name))

    def __enter__(self) -> Connection:
        """Uses the connection for a block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes it."""
        self.close()

    def close(self) -> None:
        """Ends calls under way and removes downloaded files that nobody saved."""
        self._channel.close()
        self._scratch.cleanup()

    def get_run(self, name: str) -> run_pb2.Run:
        """Gets a run by resource name."""
        return self.trainer.GetRun(trainer_service_pb2.GetRunRequest(name=name)).run

    def list_runs(self, limit: int | None = None) -> Iterator[run_pb2.Run]:
        """Yields runs, newest first."""
        token, count = "", 0
        while True:
            request = trainer_service_pb2.ListRunsRequest(page_token=token, page_size=min(limit or 1000, 1000))
            page = self.trainer.ListRuns(request)
            for run in page.runs:
                yield run
                count += 1
                if limit is not None and count >= limit:
                    return
            token = page.next_page_token
            if not token:
                return

    def list_datasets(self) -> Iterator[dataset_service_pb2.Dataset]:
        """Yields data sets by name."""
        token = ""
        while True:
            page = self.datasets.ListDatasets(dataset_service_pb2.ListDatasetsRequest(page_token=token))
            yield from page.datasets
            token = page.next_page_token
            if not token:
                return

    def watch(self, name: str, *, follow: bool = True, after: int = 0) -> Iterator[event_pb2.Event]:
        """Yields a run's events, each once and in order, across dropped connections.

        Raises:
            UnavailableError: The service stayed away.

        """
        failures = 0
        while True:
            request = trainer_service_pb2.WatchRunRequest(name=name, after_sequence=after, no_follow=not follow)
            try:
                for response in self.trainer.WatchRun(request):
                    failures = 0
                    for event in response.events:
                        if event.sequence > after:
                            after = event.sequence
                            yield event
                return
            except UnavailableError:
                failures += 1
                if failures > 60:
                    raise
                time.sleep(min(0.1 * 2**failures, 2.0))
