"""A running evaluator on loopback, and small real work for it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import grpc
import psutil

from support.models import minilm
from tunevane.api.evaluator.v1 import evaluator_service_pb2 as wire
from tunevane.api.evaluator.v1 import evaluator_service_pb2_grpc
from tunevane.api.type.v1 import blob_pb2, evaluation_pb2
from tunevane.core.dataset import Dataset, Item
from tunevane.nn import checkpoint, models
from tunevane.rpc.blob_client import BlobClient
from tunevane.rpc.channel import connect
from tunevane.storage import datasets
from tunevane.storage.blobs import BlobStore
from tunevane_evaluator import plan as plans
from tunevane_evaluator import service
from tunevane_evaluator.config import EvaluatorConfig


class Client:
    """What a trainer does: uploads what is missing and asks."""

    def __init__(self, target: str, store: BlobStore, state_dir: Path) -> None:
        self.channel: grpc.Channel = connect(target)
        self.stub = evaluator_service_pb2_grpc.EvaluatorServiceStub(self.channel)
        self.blobs = BlobClient(self.channel)
        self.store = store
        self.state_dir = state_dir
        self.stop: Callable[[], object] = lambda: None
        """Tells the service to stop, and returns at once."""

    def push(self, request: wire.EvaluateRequest) -> None:
        self.blobs.push(self.store, plans.refs(request))

    def updates(self, request: wire.EvaluateRequest) -> Iterator[wire.EvaluateResponse]:
        return iter(self.stub.Evaluate(request, timeout=120))

    def evaluate(self, request: wire.EvaluateRequest) -> wire.EvaluationResult:
        self.push(request)
        *_, last = self.updates(request)
        assert last.HasField("result")
        return last.result

    def read(self, ref: blob_pb2.BlobRef) -> bytes:
        self.blobs.fetch([ref], self.store)
        return self.store.read(ref)

    def engine(self) -> psutil.Process:
        """Returns the process of the embedded engine."""
        ours = [
            child
            for child in psutil.Process().children(recursive=True)
            if "tunevane_evaluator.index.edge" in (line := child.cmdline()) and line[-1].startswith(str(self.state_dir))
        ]
        assert len(ours) == 1
        return ours[0]


@contextmanager
def running(config: EvaluatorConfig, store: BlobStore) -> Iterator[Client]:
    """Serves in a thread until the block ends."""
    started = threading.Event()
    ports: list[int] = []
    failures: list[BaseException] = []
    loops: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def main() -> None:
        stopping = asyncio.Event()
        loops.append((asyncio.get_running_loop(), stopping))

        def on_started(port: int) -> None:
            ports.append(port)
            started.set()

        await service.run(config, on_started=on_started, stopping=stopping)

    def run() -> None:
        try:
            asyncio.run(main())
        except BaseException as error:
            failures.append(error)
        finally:
            started.set()

    thread = threading.Thread(target=run, name="evaluator")
    thread.start()
    client: Client | None = None
    try:
        assert started.wait(20), "the service did not start"
        if failures:
            raise failures[0]
        client = Client(f"127.0.0.1:{ports[0]}", store, config.state_dir)
        ((loop, stopping),) = loops
        client.stop = partial(loop.call_soon_threadsafe, stopping.set)
        yield client
    finally:
        if client is not None:
            client.channel.close()
        for loop, stopping in loops:
            if not loop.is_closed():
                loop.call_soon_threadsafe(stopping.set)
        thread.join(30)
        assert not thread.is_alive(), "the service did not stop"
    assert not failures


def translations(language: str, count: int, prefix: str) -> Dataset:
    """Makes a set of emoji names of one language, labelled by the emoji; ids start with the prefix."""
    import emoji

    emoji.config.load_language(language)
    rows: dict[str, str] = {}
    for sign, each in emoji.EMOJI_DATA.items():
        # One code point each: skin tones and sequences are named almost alike.
        if language in each and "en" in each and len(sign) == 1:
            rows.setdefault(each[language].strip(":").replace("_", " "), sign)
    items = [Item(f"{prefix}{ord(sign):x}", text, label=sign) for text, sign in list(rows.items())[:count]]
    return Dataset("items", tuple(items))


def weights(store: BlobStore, factor: float | None = None) -> blob_pb2.Bundle:
    """Stores the test model's weights; the last layer's are multiplied by the factor."""
    model = models.build(minilm())
    if factor is not None:
        for name, tensor in model.state_dict().items():
            if ".layer.2.output.dense.weight" in name:
                tensor.mul_(factor)
    return checkpoint.save(model.state_dict(), store)


def request(
    store: BlobStore,
    checkpoint_: blob_pb2.Bundle,
    queries: Dataset,
    documents: Dataset | None,
    *,
    metrics: Sequence[str] = (),
    run: str = "runs/test",
    **plan: object,
) -> wire.EvaluateRequest:
    """Makes a request."""
    made = evaluation_pb2.EvaluationPlan(query_data=datasets.save(queries, store), metrics=metrics, **plan)  # type: ignore[arg-type]  # fields by name
    if documents is not None:
        made.index_data.CopyFrom(datasets.save(documents, store))
    return wire.EvaluateRequest(run=run, model=minilm(), checkpoint=checkpoint_, plan=made)
