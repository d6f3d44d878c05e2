"""Several processes on one machine that train one run: starts them, and ends all when one ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from queue import SimpleQueue

GRACE_SECONDS = 120.0
"""How long the others may take to save and end by themselves."""


def environment(rank: int, size: int, port: int, environ: Mapping[str, str]) -> dict[str, str]:
    """Returns the variables of one process, as torchrun sets them."""
    cores = len(os.sched_getaffinity(0))
    defaults = {"OMP_NUM_THREADS": str(max(cores // size, 1))}
    if sys.platform == "linux":
        # All are on this machine.
        defaults["GLOO_SOCKET_IFNAME"] = "lo"
    own = {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(size),
        "LOCAL_WORLD_SIZE": str(size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    return {**defaults, **environ, **own}


def run(size: int, environ: Mapping[str, str] = os.environ) -> int:
    """Runs `python -m tunevane_trainer.training` so often, and returns the exit code of the leader.

    SIGTERM is passed on. When one process ends, the others are given time to notice, and then ended.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "tunevane_trainer.training"]
    processes = [subprocess.Popen(command, env=environment(rank, size, port, environ)) for rank in range(size)]

    def pass_on(number: int, _: object) -> None:
        for each in processes:
            each.send_signal(number)

    signal.signal(signal.SIGTERM, pass_on)
    ended: SimpleQueue[int] = SimpleQueue()

    def wait(process: subprocess.Popen[bytes]) -> None:
        process.wait()
        ended.put(process.pid)

    for each in processes:
        threading.Thread(target=wait, args=(each,), daemon=True).start()
    ended.get()
    for each in processes:
        try:
            each.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            each.kill()
    code = processes[0].wait()
    return code if code >= 0 else 128 - code
