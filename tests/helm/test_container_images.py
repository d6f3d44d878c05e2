"""The images: clean Dockerfiles, locks that fit, and services that answer as a user without rights."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from support.chart import COMPONENTS, ROOT
from support.images import USER, Buildah, base_image, prepare

LOCKS = {
    "tracker/requirements.lock": ("tracker",),
    "trainer/requirements.lock": ("trainer",),
    "trainer/requirements-workers.lock": ("trainer", "nn"),
    "evaluator/requirements.lock": ("evaluator",),
}
"""Each lock, and the extras that it is of."""

HOLDS_NO_TORCH = {"tracker/requirements.lock", "trainer/requirements.lock"}


def dockerfile(service: str) -> str:
    return (ROOT / f"services/{service}/Dockerfile").read_text(encoding="utf-8")


@pytest.mark.parametrize("service", COMPONENTS)
def test_hadolint_has_nothing_to_say(service: str) -> None:
    program = Path(sys.executable).parent / "hadolint"
    file = ROOT / f"services/{service}/Dockerfile"
    done = subprocess.run([str(program), "--no-color", str(file)], capture_output=True, text=True)
    assert done.stdout + done.stderr == ""
    assert done.returncode == 0


@pytest.mark.parametrize("service", COMPONENTS)
def test_it_runs_as_a_numeric_user_and_starts_the_service(service: str) -> None:
    lines = dockerfile(service).splitlines()
    stages = "\n".join(lines).split("\nFROM ")
    assert {line for line in lines if line.startswith("USER")} == {f"USER {USER}"}
    assert lines[-1].startswith(("USER", "CMD"))
    assert f'CMD ["serve", "{service}"]' in lines
    assert 'ENTRYPOINT ["tunevane"]' in lines
    assert "ARG BASE=docker.io/library/python:3.11-slim-bookworm" in stages[0]


def needed(extras: tuple[str, ...]) -> list[Requirement]:
    """Lists what pyproject.toml asks for, with what the extras ask for."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found = [Requirement(each) for each in project["dependencies"]]
    for extra in extras:
        for each in map(Requirement, project["optional-dependencies"][extra]):
            found += needed(tuple(sorted(each.extras))) if each.name == "tunevane" else [each]
    return found


@pytest.mark.parametrize("lock", LOCKS)
def test_the_lock_is_hashed_and_fits_what_is_asked_for(lock: str) -> None:
    text = (ROOT / "services" / lock).read_text(encoding="utf-8")
    entries = re.findall(r"^([a-z0-9._-]+)==(\S+) \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", text, re.M)
    assert len(entries) == len(re.findall(r"^[a-z]", text, re.M))
    locked = {canonicalize_name(name): version for name, version, _ in entries}
    for requirement in needed(LOCKS[lock]):
        name = canonicalize_name(requirement.name)
        if name != "torch":
            assert name in locked, f"{name} is missing in {lock}; docs/how-to/deploy.md says how to lock again"
            assert requirement.specifier.contains(locked[name]), f"{name} {locked[name]} in {lock} is not {requirement}"
    assert "torch" not in locked
    if lock in HOLDS_NO_TORCH:
        assert not locked.keys() & {"sentence-transformers", "transformers", "safetensors"}


@pytest.fixture(scope="module")
def buildah(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Buildah]:
    found = prepare(tmp_path_factory.mktemp("images"))
    yield found
    # Gigabytes, because each layer is a whole copy.
    found("rm", "--all")
    found("rmi", "--all", "--force")


@pytest.fixture(scope="module")
def base(buildah: Buildah) -> str:
    return base_image(buildah)


def free_ports() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as other:
        for each in (one, other):
            each.bind(("127.0.0.1", 0))
        return one.getsockname()[1], other.getsockname()[1]


@pytest.mark.nightly
@pytest.mark.timeout(2400)
@pytest.mark.parametrize(("service", "target"), [("tracker", None), ("trainer", "service")])
def test_it_serves_as_a_user_without_rights(service: str, target: str | None, buildah: Buildah, base: str) -> None:
    container = buildah("from", buildah.build(service, base, target))
    port, shown = free_ports()
    name = "HTTP" if service == "tracker" else "METRICS"
    settings = [f"TUNEVANE_{service.upper()}_PORT={port}", f"TUNEVANE_{service.upper()}_{name}_PORT={shown}"]
    run = ["run", "--network", "host", "--user", USER]
    command = [buildah.program, *run, *(f"--env={each}" for each in settings), container, "--", "tunevane", "serve"]
    process = subprocess.Popen([*command, service], stderr=subprocess.PIPE, text=True, env=buildah.environment)
    try:
        assert process.stderr is not None
        said = []
        for line in process.stderr:
            said.append(line)
            if "serving service=" in line:
                break
        assert f":{port}" in said[-1], "".join(said)
        option = "--target" if service == "trainer" else f"--{service}"
        answer = buildah(*run, container, "--", "tunevane", "doctor", option, f"127.0.0.1:{port}", "--output", "json")
        assert '"serving at 127.0.0.1' in answer
        known = buildah(
            *run, container, "--", "python3", "-c", "import importlib.util as u; print(u.find_spec('torch'))"
        )
        assert known == "None"
        assert buildah(*run, container, "--", "id", "-u") == "65532"
    finally:
        process.terminate()
        process.communicate(timeout=60)
