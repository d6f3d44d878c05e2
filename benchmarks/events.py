"""The way of an event: what it costs training to emit one, and how fast the tracker takes them, durably.

Throughput: tracker and publishers are processes of their own on one machine. Each of 16 publishers has a run, sends
batches of 100 events and waits for the acknowledgement of one before it sends the next; an acknowledged event is on
disk. Latencies are those that the publishers see. Events are made before the clock starts: making them is the
publishers' work, on their machines.

Emitting: a worker's reporter emits while it sends what it emitted to a trainer service in another process, first a
thousand events a second, which is far more than training has, then as many as it can.

Backlog: the trainer service has them all when a tracker comes; its mirror brings them there.

Recovery: the tracker is killed with a million events and started again; the clock runs until it shows the newest.
"""

from __future__ import annotations

import asyncio
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
from harness import Row, at_most, report

from tunevane.api.tracker.v1 import tracker_service_pb2 as pb
from tunevane.api.tracker.v1 import tracker_service_pb2_grpc
from tunevane.api.trainer.v1 import run_pb2, runner_service_pb2_grpc
from tunevane.api.type.v1.event_pb2 import Event, RunStarted, StepReported
from tunevane.rpc.channel import connect
from tunevane.rpc.options import client_options
from tunevane.rpc.server import ServerOptions, serve
from tunevane.storage.blobs import BlobStore
from tunevane_tracker.config import TrackerConfig
from tunevane_tracker.service import run
from tunevane_trainer.mirror import Mirror
from tunevane_trainer.publisher import Publisher
from tunevane_trainer.runner_servicer import RunnerServicer
from tunevane_trainer.runs import Runs
from tunevane_trainer.store import RunStore
from tunevane_trainer.training.reporter import Reporter

RUN, TOKEN = "runs/some-run", "secret"
PUBLISHERS = 16
BATCH = 100
METHOD = "/tunevane.api.tracker.v1.TrackerService/PublishEvents"


def serve_tracker(folder: Path) -> None:
    """Runs a tracker and writes its port to stdout."""
    config = TrackerConfig(port=0, http_port=0, state_dir=folder, wandb="off")
    asyncio.run(run(config, on_started=lambda port, _: print(port, flush=True)))


class Listener:
    """Hears workers live, which is the supervisor's part."""

    def heard_from(self, name: str) -> None:
        """Is content."""


def serve_trainer(folder: Path, target: str) -> None:
    """Runs the parts of a trainer service that events pass, with one run, and writes its port to stdout.

    Where `target` names a tracker, everything is mirrored there and the seconds that took follow.
    """
    store = RunStore(folder / "runs.sqlite")
    store.create(run_pb2.Run(name=RUN, uid="u1", state=run_pb2.RUN_STATE_RUNNING), "benchmark")
    store.grant(RUN, TOKEN)
    runs = Runs(store, BlobStore(folder / "blobs"))
    tasks = []

    async def mirror() -> None:
        with connect(target) as channel:
            began = time.perf_counter()
            task = asyncio.create_task(Mirror(runs, channel, publisher=Publisher(folder / "publisher.json")).run())
            while await runs.call(store.unmirrored):  # noqa: ASYNC110 - the mirror rings no bell when it is done
                await asyncio.sleep(0.005)
            print(time.perf_counter() - began, flush=True)
            task.cancel()

    def register(server: grpc.aio.Server) -> list[str]:
        servicer = RunnerServicer(runs, Listener(), 30.0)
        runner_service_pb2_grpc.add_RunnerServiceServicer_to_server(servicer, server)
        return []

    def started(port: int) -> None:
        print(port, flush=True)
        if target:
            tasks.append(asyncio.ensure_future(mirror()))

    asyncio.run(serve("trainer", ServerOptions(), register, on_started=started))


@dataclass
class Server:
    """A service in a process of its own."""

    process: subprocess.Popen[str]
    port: int

    @property
    def target(self) -> str:
        """Its address."""
        return f"127.0.0.1:{self.port}"

    def kill(self) -> None:
        """Ends it as the kernel would."""
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()


@contextmanager
def started(*arguments: str) -> Iterator[Server]:
    """Starts `tracker <folder>` or `trainer <folder> <tracker>`, and ends it with the block if it still runs."""
    command = [sys.executable, __file__, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        server = Server(process, int(process.stdout.readline()))
        try:
            yield server
        finally:
            if process.poll() is None:
                process.terminate()


def requests(name: str, batches: int) -> list[bytes]:
    """Makes the calls of a run: a start, and reports of steps."""
    made = []
    for number in range(batches):
        events = []
        for sequence in range(number * BATCH + 1, (number + 1) * BATCH + 1):
            event = Event(sequence=sequence, epoch=1, step=sequence)
            event.event_time.FromNanoseconds(1_700_000_000_000_000_000 + sequence * 1_000_000)
            report_ = StepReported(batch=sequence, loss=1.0 / sequence, items_per_second=512.0, learning_rate=1e-5)
            event.step_reported.CopyFrom(report_)
            if sequence == 1:
                event.run_started.CopyFrom(RunStarted(epochs=1, batches_per_epoch=batches * BATCH))
            events.append(event)
        made.append(pb.PublishEventsRequest(run=f"runs/{name}", uid=name, events=events).SerializeToString())
    return made


@dataclass
class Load:
    """What the publishers saw."""

    seconds: float = 0.0
    events: int = 0
    waits: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Events per second."""
        return self.events / self.seconds

    def quantile(self, which: float) -> float:
        """Milliseconds until an acknowledgement."""
        return 1e3 * sorted(self.waits)[min(int(which * len(self.waits)), len(self.waits) - 1)]


async def publish(target: str, runs: list[list[bytes]]) -> Load:
    """Publishes runs at the same time, each in order."""
    load = Load()

    async def publisher(
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, pb.PublishEventsResponse], made: list[bytes]
    ) -> None:
        for number, request in enumerate(made, 1):
            began = time.perf_counter()
            answer = await call(request)
            load.waits.append(time.perf_counter() - began)
            assert answer.acked_sequence == number * BATCH

    async with grpc.aio.insecure_channel(target, options=client_options(target)) as channel:
        call = channel.unary_unary(METHOD, response_deserializer=pb.PublishEventsResponse.FromString)
        began = time.perf_counter()
        await asyncio.gather(*(publisher(call, made) for made in runs))
        load.seconds = time.perf_counter() - began
    load.events = sum(len(made) for made in runs) * BATCH
    return load


def throughput(rounds: int, events: int) -> tuple[list[Row], dict[str, object]]:
    """Measures events per second and the time until an acknowledgement."""
    runs = [requests(f"run-{number}", events // PUBLISHERS // BATCH) for number in range(PUBLISHERS)]
    loads = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder, started("tracker", folder) as server:
            loads.append(asyncio.run(publish(server.target, runs)))
    rate = statistics.median(load.rate for load in loads)
    rows = [
        Row("durable events/s, batches of 100", rate, None, None, ">= 100000", rate >= 100_000),
        at_most("acknowledgement, p99 ms", statistics.median(load.quantile(0.99) for load in loads), 50.0),
    ]
    notes = {
        "events": events,
        "rates": [round(load.rate) for load in loads],
        "p50_ms": [round(load.quantile(0.5), 2) for load in loads],
        "p99_ms": [round(load.quantile(0.99), 2) for load in loads],
    }
    return rows, {"throughput": notes}


def emit(
    reporter: Reporter, count: int, pause_seconds: float, clock: Callable[[], int] = time.perf_counter_ns
) -> list[float]:
    """Emits reports of steps and returns the microseconds that each took by a clock, sorted."""
    took = []
    for number in range(count):
        step = StepReported(batch=number, loss=1.0 / (number + 1), items_per_second=512.0, learning_rate=1e-5)
        event = Event(step_reported=step)
        began = clock()
        reporter.emit(event)
        took.append((clock() - began) / 1e3)
        if pause_seconds:
            time.sleep(pause_seconds)
    return sorted(took)


def emitting(paced: int, flood: int) -> tuple[list[Row], dict[str, object]]:
    """Measures what emitting costs, and how fast the mirror brings what gathered to a tracker."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with started("trainer", name, "") as trainer, connect(trainer.target) as channel:
            reporter = Reporter(channel, RUN, TOKEN, folder / "outbox")
            reporter.start(1)
            slow, fast = emit(reporter, paced, 0.001), emit(reporter, flood, 0.0)
            # On a busy machine a wait includes others' work; this is our own.
            own = emit(reporter, paced, 0.001, time.thread_time_ns)
            began = time.perf_counter()
            reporter.flush()
            flushed = time.perf_counter() - began
            reporter.close()
        with (
            started("tracker", str(folder / "tracker")) as tracker,
            started("trainer", name, tracker.target) as trainer,
        ):
            assert trainer.process.stdout is not None
            rate = (2 * paced + flood) / float(trainer.process.stdout.readline())
    rows = [
        at_most("emit at 1000/s, p99 us", slow[int(0.99 * paced)], 20.0),
        at_most("emit as fast as it goes, p99 us", fast[int(0.99 * flood)], 20.0),
        Row("backlog brought to a tracker, events/s", rate, None, None, ">= 20000", rate >= 20_000),
    ]
    notes = {
        "emitted": [paced, flood],
        "p50_us": [round(statistics.median(each), 2) for each in (slow, fast)],
        "max_us": [round(each[-1]) for each in (slow, fast)],
        "p99_us_of_cpu_at_1000_per_second": round(own[int(0.99 * paced)], 2),
        "flush_seconds": round(flushed, 3),
    }
    return rows, {"emitting": notes}


def recovery(events: int) -> tuple[list[Row], dict[str, object]]:
    """Measures how long a killed tracker takes until it shows the newest event again."""
    runs = [requests("run-0", events // BATCH)]
    with tempfile.TemporaryDirectory() as folder:
        with started("tracker", folder) as server:
            asyncio.run(publish(server.target, runs))
            server.kill()
        size_bytes = sum(file.stat().st_size for file in Path(folder).glob("tracker.sqlite*"))
        began = time.perf_counter()
        with started("tracker", folder) as server, connect(server.target) as channel:
            serving = time.perf_counter() - began
            stub = tracker_service_pb2_grpc.TrackerServiceStub(channel)
            while stub.GetTrackedRun(pb.GetTrackedRunRequest(run="runs/run-0")).sinks[0].delivered_sequence < events:
                time.sleep(0.01)
            seconds = time.perf_counter() - began
    notes = {"events": events, "until_it_answers_seconds": round(serving, 2), "bytes_on_disk": size_bytes}
    return [at_most(f"recovery with {events} events, s", seconds, 5.0)], {"recovery": notes}


def main() -> None:
    rows: list[Row] = []
    # What else the machine was doing: latencies mean little on a busy one.
    notes: dict[str, object] = {"load_average_before": round(os.getloadavg()[0], 1)}
    for part in (throughput(3, 320_000), emitting(5_000, 100_000), recovery(1_000_000)):
        rows += part[0]
        notes |= part[1]
    report("events", rows, notes)


if __name__ == "__main__":
    if sys.argv[1:2] == ["tracker"]:
        serve_tracker(Path(sys.argv[2]))
    elif sys.argv[1:2] == ["trainer"]:
        serve_trainer(Path(sys.argv[2]), sys.argv[3])
    else:
        main()
