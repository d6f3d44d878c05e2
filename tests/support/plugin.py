"""A plug-in that is installed for one test."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tunevane import plugins


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, module: str, code: str, group: str, name: str) -> None:
    """Installs a module with one entry point, whose function is called like the last part of the group, singular."""
    made = folder / "plugin"
    metadata = made / f"{module}-1.0.dist-info"
    metadata.mkdir(parents=True)
    (made / f"{module}.py").write_text(code)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    function = group.rpartition(".")[2].removesuffix("s")
    (metadata / "entry_points.txt").write_text(f"[{group}]\n{name} = {module}:{function}\n")
    monkeypatch.syspath_prepend(str(made))
    # For the processes that the sinks run in.
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(made), os.environ.get("PYTHONPATH", "")])))
    plugins._registered.cache_clear()
