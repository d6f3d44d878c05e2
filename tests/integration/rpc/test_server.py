"""A server says how it is, refuses a taken port in one sentence, and ends without failing a call."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from support import faults
from support.server import running
from tunevane.api.blob.v1 import blob_service_pb2, blob_service_pb2_grpc
from tunevane.errors import ConfigurationError, NotFoundError, TunevaneError, UnavailableError
from tunevane.rpc.blobs import SERVICE_NAME
from tunevane.rpc.channel import connect, connect_async
from tunevane.rpc.server import ServerOptions, serve

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


# Any: the packages of grpc's own services have stubs without their methods.
def health_of(channel: grpc.Channel) -> Any:
    return health_pb2_grpc.HealthStub(channel)


def reflection_of(channel: grpc.Channel) -> Any:
    return reflection_pb2_grpc.ServerReflectionStub(channel)


@pytest.fixture(name="service")
def _service() -> faults.Faults:
    return faults.Faults()


@pytest.fixture(name="target")
def _target(service: faults.Faults) -> Iterator[str]:
    with running(service.register) as target:
        yield target


def test_health_and_reflection_are_answered(target: str) -> None:
    with connect(target) as channel:
        health = health_of(channel)
        for name in ("", faults.SERVICE):
            assert health.Check(health_pb2.HealthCheckRequest(service=name)).status == SERVING
        with pytest.raises(NotFoundError):
            health.Check(health_pb2.HealthCheckRequest(service="nobody"))
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        (answer,) = reflection_of(channel).ServerReflectionInfo(iter([request]))
        listed = {each.name for each in answer.list_services_response.service}
        assert {faults.SERVICE, "grpc.health.v1.Health"} <= listed


def test_a_health_watch_hears_of_the_end_and_does_not_delay_it(service: faults.Faults) -> None:
    heard: list[int] = []
    first = threading.Event()

    def watch(target: str) -> None:
        with connect(target) as channel:
            answers = health_of(channel).Watch(health_pb2.HealthCheckRequest())
            heard.append(next(answers).status)
            first.set()
            heard.append(next(answers).status)
            with pytest.raises(UnavailableError):
                next(answers)

    # With 60 seconds to drain, the end would come too late for the server's thread if anybody waited for the watch.
    with ThreadPoolExecutor(1) as pool:
        with running(service.register, ServerOptions(drain_seconds=60)) as target:
            watching = pool.submit(watch, target)
            assert first.wait(10)
        watching.result(10)
    assert heard == [SERVING, NOT_SERVING]


def test_a_port_in_use_is_one_sentence(service: faults.Faults, target: str, capfd: pytest.CaptureFixture[str]) -> None:
    port = int(target.rsplit(":", 1)[1])
    with (
        pytest.raises(ConfigurationError, match=f"port {port} is in use"),
        running(service.register, ServerOptions(port=port)),
    ):
        pass
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(("host", "port"), [("192.0.2.1", 50051), ("192.0.2.1", 0), ("no.such.host.invalid", 50051)])
def test_an_address_of_nobody_is_a_configuration_error(service: faults.Faults, host: str, port: int) -> None:
    with pytest.raises(ConfigurationError, match=host), running(service.register, ServerOptions(host=host, port=port)):
        pass


def test_unavailable_is_repeated_for_unary_calls_of_the_contract_only(tmp_path: Path) -> None:
    class Busy(blob_service_pb2_grpc.BlobServiceServicer):
        calls = 0

        async def FindMissingBlobs(self, request: Any, context: Any) -> Any:  # noqa: N802  # the contract's name
            self.calls += 1
            if self.calls < 3:
                raise UnavailableError("busy; try again")
            return blob_service_pb2.FindMissingBlobsResponse()

        async def DownloadBlob(self, request: Any, context: Any) -> Any:  # noqa: N802  # the contract's name
            self.calls += 1
            if self.calls:
                raise UnavailableError("busy; try again")
            yield

        async def UploadBlob(self, request_iterator: Any, context: Any) -> Any:  # noqa: N802  # the contract's name
            raise NotImplementedError

    busy = Busy()

    def register(server: grpc.aio.Server) -> list[str]:
        blob_service_pb2_grpc.add_BlobServiceServicer_to_server(busy, server)
        return [SERVICE_NAME]

    with running(register) as target, connect(target) as channel:
        stub = blob_service_pb2_grpc.BlobServiceStub(channel)
        stub.FindMissingBlobs(blob_service_pb2.FindMissingBlobsRequest())
        assert busy.calls == 3
        with pytest.raises(UnavailableError):
            list(stub.DownloadBlob(blob_service_pb2.DownloadBlobRequest()))
        assert busy.calls == 4


def test_a_call_longer_than_the_drain_hears_unavailable(service: faults.Faults) -> None:
    def wait(target: str) -> TunevaneError:
        with connect(target) as channel, pytest.raises(TunevaneError) as caught:
            faults.call(channel, "stream", "wait")
        return caught.value

    with ThreadPoolExecutor(1) as pool:
        with running(service.register, ServerOptions(drain_seconds=0.1)) as target:
            waiting = pool.submit(wait, target)
            assert service.entered.acquire(timeout=10)
        assert "shuts down" in str(waiting.result(10))
        assert type(waiting.result()) is UnavailableError


_SERVER = """
import asyncio, sys
import grpc
from support import faults
from tunevane import log
from tunevane.rpc.server import ServerOptions, serve

class Slow(faults.Faults):
    go = asyncio.Event()
    async def act(self, request, context):
        if request.value == "slow":
            print("in", flush=True)
            await self.go.wait()
        return request

async def main():
    slow = Slow()
    async def release():
        await asyncio.to_thread(sys.stdin.readline)
        slow.go.set()
    task = asyncio.create_task(release())
    await serve("test", ServerOptions(), slow.register, on_started=lambda port: print(port, flush=True))
    await task
log.setup("test")
asyncio.run(main())
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_fails_no_call_under_way(number: signal.Signals) -> None:
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(each for each in sys.path if each)}
    process = subprocess.Popen(
        [sys.executable, "-c", _SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environ
    )
    with process:
        assert process.stdout is not None
        assert process.stdin is not None
        port = int(process.stdout.readline())
        with connect(f"127.0.0.1:{port}") as channel, ThreadPoolExecutor(40) as pool:
            watch = health_of(channel).Watch(health_pb2.HealthCheckRequest())
            assert next(watch).status == SERVING
            calls = [pool.submit(faults.call, channel, kind, "slow") for kind in ("unary", "stream") for _ in range(20)]
            for _ in calls:
                assert process.stdout.readline() == "in\n"
            process.send_signal(number)
            assert next(watch).status == NOT_SERVING
            # The watch is ended when new calls are refused; only then may those under way finish.
            with pytest.raises(UnavailableError):
                next(watch)
            process.stdin.write("go\n")
            process.stdin.flush()
            results = [call.result(20) for call in calls]
        assert process.wait(10) == 0
    assert results == [["slow"]] * 20 + [["first", "slow"]] * 20


async def test_two_servers_in_one_loop_both_hear_a_signal() -> None:
    ports: list[int] = []
    both = asyncio.Event()

    def on_started(port: int) -> None:
        ports.append(port)
        if len(ports) == 2:
            both.set()

    servers = [
        asyncio.create_task(serve("test", ServerOptions(), faults.Faults().register, on_started=on_started))
        for _ in range(2)
    ]
    await both.wait()
    async with connect_async(f"127.0.0.1:{ports[1]}") as channel:
        assert (await faults.method(channel, "unary")(faults.Text(value="x"))).value == "x"
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(asyncio.gather(*servers), 10)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_compressed_requests_are_refused(target: str) -> None:
    with grpc.insecure_channel(target) as channel:
        method: Any = channel.unary_unary(f"/{faults.SERVICE}/unary")
        with pytest.raises(grpc.RpcError) as caught:
            method(b"\x0a\x7f" + b"a" * 127, compression=grpc.Compression.Gzip)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_rubbish_on_the_port_harms_nobody(target: str) -> None:
    host, port = target.rsplit(":", 1)
    for data in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00\x01", os.urandom(65536)):
        with socket.create_connection((host, int(port))) as rude:
            rude.sendall(data)
    with connect(target) as channel:
        assert faults.call(channel, "unary", "hello") == ["hello"]
