"""Keeps the three services alive on loopback: `tunevane serve local`."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tunevane import log
from tunevane.api.trainer.v1 import run_pb2, trainer_service_pb2, trainer_service_pb2_grpc
from tunevane.errors import ConfigurationError, TunevaneError
from tunevane.local import stack as stacks
from tunevane.local.stack import Stack
from tunevane.rpc.channel import connect, wait_ready

_log = log.get("local")

NAMES = ("tracker", "evaluator", "trainer")
STOP_SECONDS = 20.0
LONGEST_PAUSE_SECONDS = 10.0
PARENT_VARIABLE = "TUNEVANE_ENDS_WITH_STDIN"
_ACTIVE = (run_pb2.RUN_STATE_PENDING, run_pb2.RUN_STATE_RUNNING, run_pb2.RUN_STATE_CANCELLING)


@contextmanager
def _only_one(home: Path) -> Iterator[None]:
    home.mkdir(parents=True, exist_ok=True)
    with (home / stacks.RUNNING_LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigurationError(
                f"the services run on {home} already; use them, stop them with `tunevane stop`, or give another --home"
            ) from None
        yield


def free_ports(count: int) -> list[int]:
    """Returns ports of loopback that nothing listens on now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]
    finally:
        for each in sockets:
            each.close()


class Service:
    """One service's process, started again whenever it ends."""

    def __init__(self, name: str, settings: dict[str, str], stopping: asyncio.Event) -> None:
        self.name = name
        self._settings = settings
        self._stopping = stopping
        self.process: asyncio.subprocess.Process | None = None

    async def run(self) -> None:
        """Runs until told to stop."""
        pause = 0.2
        while not self._stopping.is_set():
            started = time.monotonic()
            self.process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "tunevane", "serve", self.name),
                env={"OMP_WAIT_POLICY": "PASSIVE", **os.environ, **self._settings, PARENT_VARIABLE: "1"},
                # The service ends when this pipe does, whatever way this process dies.
                stdin=asyncio.subprocess.PIPE,
                # A Ctrl-C in the terminal is for us; we end the services in order.
                start_new_session=True,
            )
            code = await self.process.wait()
            if self._stopping.is_set():
                return
            pause = 0.2 if time.monotonic() - started > 30 else min(pause * 2, LONGEST_PAUSE_SECONDS)
            _log.warning("service ended and is started again service=%s exit_code=%d", self.name, code)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)

    async def stop(self) -> None:
        """Ends the process."""
        if self.process is None or self.process.returncode is not None:
            return
        with suppress(ProcessLookupError):
            self.process.terminate()
        try:
            await asyncio.wait_for(self.process.wait(), STOP_SECONDS)
        except TimeoutError:
            self.process.kill()
            await self.process.wait()


async def run(home: Path, idle_seconds: float | None, on_started: Callable[[Stack], None] | None = None) -> None:
    """Serves until SIGTERM or SIGINT, or until nobody has used the services for a while.

    Args:
        home: Folder of everything that they keep.
        idle_seconds: Ends them when no client is alive and no run active for so long; None never does.
        on_started: Called with the addresses once all three answer.

    Raises:
        ConfigurationError: The services run on this folder already.

    """
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    with _only_one(home):
        ports = dict(zip((*NAMES, "pages"), free_ports(4), strict=True))
        address = {name: f"127.0.0.1:{port}" for name, port in ports.items()}
        settings = {f"TUNEVANE_{name.upper()}_PORT": str(ports[name]) for name in NAMES}
        settings |= {f"TUNEVANE_{name.upper()}_STATE_DIR": str(home / name) for name in NAMES}
        settings |= {
            "TUNEVANE_TRACKER_HTTP_PORT": str(ports["pages"]),
            "TUNEVANE_TRAINER_EVALUATOR": address["evaluator"],
            "TUNEVANE_TRAINER_EVALUATOR_BLOB_DIR": str(home / "evaluator" / "blobs"),
            "TUNEVANE_TRAINER_TRACKER": address["tracker"],
        }
        services = [Service(name, settings, stopping) for name in NAMES]
        tasks = [asyncio.ensure_future(service.run()) for service in services]
        stack = Stack(
            os.getpid(), address["trainer"], address["evaluator"], address["tracker"], f"http://{address['pages']}"
        )
        try:
            ready = asyncio.ensure_future(asyncio.to_thread(_wait_all, [address[name] for name in NAMES]))
            waiting = asyncio.ensure_future(stopping.wait())
            await asyncio.wait([ready, waiting], return_when=asyncio.FIRST_COMPLETED)
            if ready.done():
                ready.result()
                stacks.write(home, stack)
                if on_started is not None:
                    on_started(stack)
                await _until_idle(home, stack, idle_seconds, stopping)
            waiting.cancel()
        finally:
            stopping.set()
            (home / stacks.FILE).unlink(missing_ok=True)
            for service in reversed(services):
                await service.stop()
            await asyncio.gather(*tasks, return_exceptions=True)


def _wait_all(addresses: list[str]) -> None:
    for address in addresses:
        channel = connect(address)
        try:
            wait_ready(channel, address, 45.0)
        finally:
            channel.close()


async def _until_idle(home: Path, stack: Stack, idle_seconds: float | None, stopping: asyncio.Event) -> None:
    stub = trainer_service_pb2_grpc.TrainerServiceStub(connect(stack.trainer))
    request = trainer_service_pb2.ListRunsRequest(page_size=1, states=_ACTIVE)
    used = time.monotonic()
    while not stopping.is_set():
        with suppress(TimeoutError):
            await asyncio.wait_for(stopping.wait(), 2.0)
        if idle_seconds is None:
            continue
        try:
            active = bool((await asyncio.to_thread(stub.ListRuns, request, timeout=10)).runs)
        except TunevaneError:
            active = True
        if active or _clients_alive(home):
            used = time.monotonic()
        elif time.monotonic() - used > idle_seconds:
            _log.info("nobody has used the services for %.0f seconds; going to sleep", idle_seconds)
            return


def _clients_alive(home: Path) -> bool:
    alive = False
    for file in (home / stacks.CLIENTS).glob("[0-9]*"):
        if stacks.is_alive(int(file.name)):
            alive = True
        else:
            file.unlink(missing_ok=True)
    return alive
