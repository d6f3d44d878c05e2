"""Moves a checkpoint from trainer to evaluator, loaded and ready: ours against a stream of `torch.save` through gRPC.

The peer is what one writes first: `torch.save` into memory, chunks of 64 KiB through a gRPC stream, `torch.load` and
`load_state_dict` on the other side, while training waits. Ours stores groups of tensors by digest, sends those that
are new (or shares the files, where the disk is the same) and loads them memory-mapped; training waits for a copy in
memory and no more. Both ends run in this process, so CPU seconds are those of sender and receiver together.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import io
import statistics
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import grpc
import torch
from harness import Row, faster, report
from transformers import BertConfig, BertModel

from tunevane.api.blob.v1 import blob_service_pb2_grpc
from tunevane.api.type.v1 import blob_pb2
from tunevane.core import bundles
from tunevane.nn import checkpoint
from tunevane.nn.snapshot import Snapshots
from tunevane.rpc.blob_client import BlobClient
from tunevane.rpc.blobs import BlobServicer
from tunevane.rpc.channel import connect
from tunevane.rpc.options import MAX_MESSAGE_BYTES
from tunevane.storage.blobs import BlobStore
from tunevane.storage.sharing import share

SIZES = {
    "MiniLM (91 MB)": BertConfig(hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536),
    "BERT-base (438 MB)": BertConfig(),
}
CHUNK_BYTES = 64 << 10


class Evaluator:
    """The receiving side: a model, a blob store, and both ways in."""

    def __init__(self, model: torch.nn.Module, store: BlobStore) -> None:
        self.model = model
        self.store = store

    async def receive(self, chunks: AsyncIterator[bytes], context: object) -> bytes:
        """Takes a stream of `torch.save`."""
        received = io.BytesIO()
        async for chunk in chunks:
            received.write(chunk)
        received.seek(0)
        self.model.load_state_dict(torch.load(received, weights_only=True))
        return b"loaded"


@contextmanager
def serving(evaluator: Evaluator) -> Iterator[str]:
    """Serves in a thread and gives the address."""
    started = threading.Event()
    ports: list[int] = []
    loop = asyncio.new_event_loop()
    stopping = asyncio.Event()

    async def main() -> None:
        server = grpc.aio.server(options=[("grpc.max_receive_message_length", MAX_MESSAGE_BYTES)])
        handlers = {"Receive": grpc.stream_unary_rpc_method_handler(evaluator.receive)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("naive", handlers),))
        blob_service_pb2_grpc.add_BlobServiceServicer_to_server(BlobServicer(evaluator.store), server)
        ports.append(server.add_insecure_port("127.0.0.1:0"))
        await server.start()
        started.set()
        await stopping.wait()
        await server.stop(1)

    thread = threading.Thread(target=lambda: loop.run_until_complete(main()))
    thread.start()
    started.wait()
    try:
        yield f"127.0.0.1:{ports[0]}"
    finally:
        loop.call_soon_threadsafe(stopping.set)
        thread.join()


def change(model: torch.nn.Module, *, layers: int | None) -> None:
    """Changes all weights, or those of the last layers."""
    count = model.config.num_hidden_layers
    last = tuple(f"encoder.layer.{number}." for number in range(count - (layers or 0), count))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if layers is None or name.startswith(last):
                parameter.add_(1e-3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="rounds after one warm-up")
    rounds = parser.parse_args().rounds
    rows: list[Row] = []
    notes: dict[str, object] = {"unit": "CPU seconds of both sides, median", "rounds": rounds}
    for size, config in SIZES.items():
        with tempfile.TemporaryDirectory() as scratch:
            rows += of_size(size, config, Path(scratch), rounds, notes)
    report("checkpoints", rows, notes)


def of_size(size: str, config: BertConfig, folder: Path, rounds: int, notes: dict[str, object]) -> list[Row]:
    """Races the ways to move a model of one size."""
    model = BertModel(config)
    source = BlobStore(folder / "trainer")
    wire = Evaluator(BertModel(config), BlobStore(folder / "remote"))
    near = Evaluator(BertModel(config), BlobStore(folder / "near"))
    with serving(wire) as address:
        channel = connect(address)
        blobs = BlobClient(channel)
        send = grpc.insecure_channel(address).stream_unary("/naive/Receive")

        def stream() -> None:
            saved = io.BytesIO()
            torch.save(model.state_dict(), saved)
            view = saved.getbuffer()
            send(bytes(view[start : start + CHUNK_BYTES]) for start in range(0, len(view), CHUNK_BYTES))

        kept: dict[str, set[str]] = {}

        def save(way: str) -> blob_pb2.Bundle:
            bundle = checkpoint.save(model.state_dict(), source)
            kept[way] = {ref.blake3 for ref in bundles.refs(bundle)}
            return bundle

        def prune() -> None:
            """Lets go of older checkpoints, as the services do."""
            current = set().union(*kept.values())
            for store in (source, wire.store, near.store):
                for digest in [digest for digest, _, _ in store.digests() if digest not in current]:
                    store.delete(digest)

        def over_the_wire() -> None:
            bundle = save("wire")
            blobs.push(source, bundles.refs(bundle))
            checkpoint.load(wire.model, bundle, wire.store)

        def same_disk() -> None:
            bundle = save("disk")
            assert share(source, near.store, bundles.refs(bundle)) == []
            checkpoint.load(near.model, bundle, near.store)

        ways = {
            "torch.save stream": (stream, wire.model),
            "over the wire": (over_the_wire, wire.model),
            "same disk": (same_disk, near.model),
        }
        rows: list[Row] = []
        for what, layers, goal in (("all weights changed", None, 2.5), ("two layers changed", 2, 5.0)):
            cpu, wall = race(model, ways, layers, rounds, prune)
            rows.extend(
                faster(f"{size}, {what}, {way}: CPU s", cpu[way], cpu["torch.save stream"], goal)
                for way in ("same disk", "over the wire")
            )
            notes[f"{size}, {what}: wall seconds"] = {name: round(value, 3) for name, value in wall.items()}
            if layers is None:
                stalled = wall["torch.save stream"]
        rows.append(faster(f"{size}, training stalled: wall s", copied(model, rounds), stalled, 20))
        channel.close()
    return rows


def race(
    model: torch.nn.Module,
    ways: Mapping[str, tuple[Callable[[], None], torch.nn.Module]],
    layers: int | None,
    rounds: int,
    prune: Callable[[], None],
) -> tuple[dict[str, float], dict[str, float]]:
    """Returns median CPU and wall seconds by way; the weights change before each, outside the measurement."""
    cpu: dict[str, list[float]] = {name: [] for name in ways}
    wall: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, (way, received) in ways.items():
            change(model, layers=layers)
            gc.collect()
            began, cpu_began = time.perf_counter(), time.process_time()
            way()
            if number:
                wall[name].append(time.perf_counter() - began)
                cpu[name].append(time.process_time() - cpu_began)
            arrived = received.state_dict()
            assert all(torch.equal(arrived[each], tensor) for each, tensor in model.state_dict().items())
    medians = [{name: statistics.median(values) for name, values in each.items()} for each in (cpu, wall)]
    return medians[0], medians[1]


def copied(model: torch.nn.Module, rounds: int) -> float:
    """Returns the median wall seconds of the copy that training waits for."""
    snapshots = Snapshots()
    seconds = []
    for _ in range(rounds + 1):
        began = time.perf_counter()
        snapshot = snapshots.take(model.state_dict())
        seconds.append(time.perf_counter() - began)
        snapshots.give_back(snapshot)
    return statistics.median(seconds[1:])


if __name__ == "__main__":
    main()
