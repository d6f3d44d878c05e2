"""What the scripts of the examples share: write the data, start the run, and show what comes of it."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from tunevane import runfile
from tunevane.client import display
from tunevane.errors import TunevaneError


def main(script: str, about: str, write: Callable[[Path, bool], str], small: Mapping[str, object]) -> int:
    """Runs an example and returns the exit code.

    Args:
        script: Path of its script; `run.yaml` lies beside it.
        about: One sentence.
        write: Writes the data into a folder, small or of full size, and says what it wrote.
        small: What the small size changes in the run, by the names that `tunevane.fit` has.

    """
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--out", type=Path, help="folder for the data and the run's file (build/<example>)")
    parser.add_argument("--small", action="store_true", help="a size that takes seconds, as the tests use it")
    parser.add_argument("--data-only", action="store_true", help="write the data and start nothing")
    options = parser.parse_args()
    folder = options.out or Path("build") / Path(script).resolve().parent.name
    folder.mkdir(parents=True, exist_ok=True)
    print(f"{folder}: {write(folder, options.small)}")
    plan = Path(shutil.copy(Path(script).resolve().parent / "run.yaml", folder))
    if options.data_only:
        print(f"Start it: tunevane runs create -f {plan}")
        return 0
    try:
        run = runfile.create(plan, **(small if options.small else {}))
        status = run.watch()
        if status != "SUCCEEDED":
            print(f"The run ended as {status}: {run.failure_reason}", file=sys.stderr)
            return 1
        run.display_metrics()
        run.display_decisions()
        with display.transfer("Downloading the artifact") as progress:
            print(f"Artifact   {run.save_artifact(folder / 'artifact', progress)}")
    except TunevaneError as error:
        print(f"tunevane: {error}", file=sys.stderr)
        return 1
    return 0
