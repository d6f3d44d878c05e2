"""A trainer's store and mirror in a process of their own: appends events to a run and mirrors them, until all are.

Started again after a kill it goes on where the store ends. Writes a line to stdout for every append.
"""

from __future__ import annotations

import asyncio
import random
import sys
from contextlib import suppress
from pathlib import Path

from support.trainer_parts import RUN, make_runs
from tunevane.api.type.v1 import event_pb2
from tunevane.rpc.channel import connect
from tunevane_trainer.mirror import Mirror
from tunevane_trainer.publisher import Publisher
from tunevane_trainer.runs import Runs


def last_step(runs: Runs) -> int:
    """Tells the last step in the store; lines of the tracker may follow it."""
    end = runs.store.get(RUN).last_sequence
    return max((event.step for event in runs.store.events(RUN, max(0, end - 100))), default=0)


def tell(step: int) -> None:
    """Says how far the run is."""
    sys.stdout.write(f"{step}\n")
    sys.stdout.flush()


async def produce(folder: Path, target: str, steps: int) -> None:
    """Appends and mirrors."""
    runs = make_runs(folder)
    draw = random.Random()
    with connect(target) as channel:
        mirror = Mirror(runs, channel, publisher=Publisher(folder / "publisher.json"), first_pause_seconds=0.05)
        mirroring = asyncio.create_task(mirror.run())
        step = await runs.call(lambda: last_step(runs))
        while step < steps:
            count = min(draw.randint(1, 400), steps - step)
            events = [
                event_pb2.Event(step=number, step_reported=event_pb2.StepReported(batch=number, loss=1.0 / number))
                for number in range(step + 1, step + count + 1)
            ]
            await runs.append(RUN, events)
            step += count
            tell(step)
        while await runs.call(runs.store.unmirrored):
            await asyncio.sleep(0.02)
            tell(step)
        mirroring.cancel()
        with suppress(asyncio.CancelledError):
            await mirroring
    runs.close()


if __name__ == "__main__":
    asyncio.run(produce(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
