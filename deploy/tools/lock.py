"""Locks what the images install, with hashes: `python deploy/tools/lock.py PIP_COMPILE`, for Python 3.11 on Linux.

torch and what only its builds for GPUs need are left out: an image gets the build for its device by itself.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
LOCKS = {
    "tracker/requirements.lock": ("tracker",),
    "trainer/requirements.lock": ("trainer",),
    "trainer/requirements-workers.lock": ("trainer", "nn"),
    "evaluator/requirements.lock": ("evaluator",),
}
"""Each lock below services/, and the extras that it is of."""

OF_A_DEVICE = re.compile(r"torch|triton|(cuda|nvidia)-.*")
OPTIONS = (
    "--quiet",
    "--upgrade",
    "--generate-hashes",
    "--strip-extras",
    "--allow-unsafe",
    "--no-header",
    "--no-annotate",
)
ELSEWHERE = ("--no-emit-index-url", "--no-emit-trusted-host", "--no-emit-find-links")


def without_devices(lock: str) -> str:
    """Leaves out of a lock what differs between devices."""
    entries = re.finditer(r"^([A-Za-z0-9._-]+)==\S+ \\\n(?:    --hash=\S+(?: \\)?\n)+", lock, re.M)
    return "".join(each.group() for each in entries if not OF_A_DEVICE.fullmatch(each.group(1)))


def main(pip_compile: str) -> None:
    """Writes all locks."""
    for path, extras in LOCKS.items():
        with tempfile.TemporaryDirectory() as scratch:
            found = Path(scratch) / "requirements.lock"
            chosen = [f"--extra={extra}" for extra in extras]
            command = [pip_compile, *OPTIONS, *ELSEWHERE, *chosen, f"--output-file={found}", "pyproject.toml"]
            subprocess.run(command, cwd=ROOT, check=True)
            (ROOT / "services" / path).write_text(without_devices(found.read_text("utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main(str(Path(sys.argv[1]).resolve()))
