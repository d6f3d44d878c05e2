"""The wandb packages that tests run with: the one that is installed, and the oldest that is allowed."""

from __future__ import annotations

import os
from importlib.metadata import version
from pathlib import Path

import pytest

from support.programs import absent

OLDEST = "0.27.0"
FOLDER = Path(__file__).parents[2] / ".venv-wandb-oldest"
"""Where `make test` puts the oldest one."""

VERSIONS = ("installed", "oldest")


def use(which: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Lets the processes of the sink import a wandb and returns its version; skips when it is not here."""
    if which == "installed":
        return version("wandb")
    if not (FOLDER / "wandb").is_dir():
        absent(f"needs wandb {OLDEST} in {FOLDER.name}, where `make test` puts it")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(FOLDER), os.environ.get("PYTHONPATH", "")])))
    return OLDEST
