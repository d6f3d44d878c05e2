"""DatasetService: names for data sets."""

from __future__ import annotations

from typing import Any

from tunevane.api.data.v1 import dataset_service_pb2 as wire
from tunevane.api.data.v1 import dataset_service_pb2_grpc
from tunevane.core import bundles, names
from tunevane.errors import BlobsMissingError
from tunevane.storage import datasets
from tunevane_trainer.runs import Runs
from tunevane_trainer.trainer_servicer import page_size

PREFIX = "datasets/"


class DatasetServicer(dataset_service_pb2_grpc.DatasetServiceServicer):
    """Gives names to data sets."""

    def __init__(self, runs: Runs) -> None:
        self._runs = runs

    async def CreateDataset(self, request: wire.CreateDatasetRequest, context: Any) -> wire.CreateDatasetResponse:  # noqa: N802  # the contract's name
        """Names a data set whose files are already here."""
        names.check(request.dataset_id, "dataset_id")
        bundles.check(request.dataset.content)

        def create() -> wire.Dataset:
            missing = self._runs.blobs.missing(bundles.refs(request.dataset.content))
            if missing:
                raise BlobsMissingError(
                    f"{len(missing)} files of the data set have not been uploaded to this server",
                    {"count": str(len(missing))},
                )
            count = len(datasets.load(request.dataset.content, self._runs.blobs).items)
            dataset = wire.Dataset(name=PREFIX + request.dataset_id, content=request.dataset.content, item_count=count)
            return self._runs.store.add_dataset(dataset, request.request_id)

        return wire.CreateDatasetResponse(dataset=await self._runs.call(create))

    async def GetDataset(self, request: wire.GetDatasetRequest, context: Any) -> wire.GetDatasetResponse:  # noqa: N802  # the contract's name
        """Gets a data set."""
        dataset = await self._runs.call(lambda: self._runs.store.get_dataset(request.name))
        return wire.GetDatasetResponse(dataset=dataset)

    async def ListDatasets(self, request: wire.ListDatasetsRequest, context: Any) -> wire.ListDatasetsResponse:  # noqa: N802  # the contract's name
        """Lists data sets by name."""
        size = page_size(request.page_size)
        found, following = await self._runs.call(lambda: self._runs.store.list_datasets(size, request.page_token))
        return wire.ListDatasetsResponse(datasets=found, next_page_token=following)

    async def DeleteDataset(self, request: wire.DeleteDatasetRequest, context: Any) -> wire.DeleteDatasetResponse:  # noqa: N802  # the contract's name
        """Removes a name."""
        await self._runs.call(lambda: self._runs.store.delete_dataset(request.name))
        return wire.DeleteDatasetResponse()
