"""Images built and run without a daemon, by buildah; their base comes from a registry or from Debian's packages."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from support.chart import ROOT
from support.programs import require

USER = "65532:65532"
PYTHON_IMAGE = "docker.io/library/python:3.11-slim-bookworm"
CONFIGURATION = ("/etc/pip.conf", "/etc/ssl/certs", "/etc/resolv.conf")
"""What a build sees of this machine, so that pip finds the same packages as here."""


@dataclass(frozen=True)
class Buildah:
    """Buildah with a store of its own."""

    program: str
    """Path of the program."""

    folder: Path
    """Where its store is."""

    def __call__(self, *arguments: str, timeout_seconds: float = 1200) -> str:
        """Runs a command and returns what it printed; fails with what it said."""
        done = subprocess.run(
            [self.program, *arguments],
            capture_output=True,
            text=True,
            env=self.environment,
            timeout=timeout_seconds,
            check=False,
        )
        assert done.returncode == 0, f"buildah {' '.join(arguments[:2])}: {done.stderr[-2000:]}"
        return done.stdout.strip()

    @property
    def environment(self) -> dict[str, str]:
        """The variables that a command is run with."""
        return {
            **os.environ,
            "CONTAINERS_STORAGE_CONF": str(self.folder / "storage.conf"),
            "BUILDAH_ISOLATION": "chroot",
        }

    def build(self, service: str, base: str, target: str | None = None) -> str:
        """Builds a service's image and returns its name."""
        name = f"localhost/{service}:test"
        options = [f"--volume={path}:{path}:ro" for path in CONFIGURATION if Path(path).exists()]
        options += [] if target is None else ["--target", target]
        self(
            *("bud", "--quiet", "--network", "host", *options, "--build-arg", f"BASE={base}"),
            *("--file", str(ROOT / f"services/{service}/Dockerfile"), "--tag", name, str(ROOT)),
        )
        return name


def prepare(folder: Path) -> Buildah:
    """Sets up an empty store, or skips the test where buildah is missing."""
    program = require("buildah")
    (folder / "storage.conf").write_text(
        f'[storage]\ndriver = "vfs"\nrunroot = "{folder}/run"\ngraphroot = "{folder}/graph"\n', encoding="utf-8"
    )
    return Buildah(program, folder)


def base_image(buildah: Buildah) -> str:
    """Returns an image with Python: the usual one, or, where no registry is reached, one made of Debian's packages."""
    pulled = subprocess.run(
        [buildah.program, "pull", "--quiet", PYTHON_IMAGE], capture_output=True, env=buildah.environment, timeout=300
    )
    if pulled.returncode == 0:
        return PYTHON_IMAGE
    root = buildah.folder / "root"
    include = "--include=ca-certificates,python3,python3-venv"
    debootstrap = [require("debootstrap"), "--variant=minbase", include, "bookworm", str(root)]
    subprocess.run([*debootstrap, "http://deb.debian.org/debian"], check=True, capture_output=True, timeout=900)
    container = buildah("from", "scratch")
    buildah("add", "--quiet", container, str(root), "/")
    buildah("config", "--env", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", container)
    buildah("commit", "--quiet", container, "localhost/base:test")
    return "localhost/base:test"
