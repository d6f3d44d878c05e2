"""Entry point of a worker: `python -m tunevane_trainer.training`, settings by environment.

Under torchrun, or with `TUNEVANE_WORKER_PROCESSES`, several processes train one run.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress

from tunevane import config, log
from tunevane.errors import ConfigurationError
from tunevane_trainer.training.settings import WorkerConfig


def main() -> int:
    """Trains one run and returns the exit code."""
    log.setup("worker")
    try:
        settings = config.load(WorkerConfig, "worker", environ=os.environ)
        if settings.processes > 1 and "RANK" not in os.environ:
            from tunevane_trainer.training import gang

            return gang.run(settings.processes)
        return _train(settings)
    except ConfigurationError as error:
        sys.stderr.write(f"tunevane: {error}\n")
        return 64


def _train(settings: WorkerConfig) -> int:
    from tunevane_trainer.training import distributed
    from tunevane_trainer.training.follower import follow
    from tunevane_trainer.training.worker import run

    with distributed.joined() as group:
        if not group.leads:
            return follow(settings, group)
        code = run(settings)
        # In an epoch that broke off the others do not listen; they notice that this process has ended.
        if not group.busy:
            with suppress(distributed.PeerLostError):
                group.tell({"do": "end", "code": code})
        return code


if __name__ == "__main__":
    raise SystemExit(main())
