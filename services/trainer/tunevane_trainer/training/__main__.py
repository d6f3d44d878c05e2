"""Entry point of a worker: `python -m tunevane_trainer.training`, settings by environment."""

from __future__ import annotations

import os
import sys

from tunevane import config, log
from tunevane.errors import ConfigurationError
from tunevane_trainer.training.settings import WorkerConfig


def main() -> int:
    """Trains one run and returns the exit code."""
    log.setup("worker")
    try:
        settings = config.load(WorkerConfig, "worker", environ=os.environ)
    except ConfigurationError as error:
        sys.stderr.write(f"tunevane: {error}\n")
        return 64
    from tunevane_trainer.training.worker import run

    return run(settings)


if __name__ == "__main__":
    raise SystemExit(main())
