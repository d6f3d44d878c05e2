"""Writes the Python code of `protos/` to `src/tunevane/api` and their reference to `docs/`, or checks both.

    python protos/generate.py            writes
    python protos/generate.py --check    exits with 1 and names the files that differ

The compiler is pinned to the oldest grpcio and protobuf that the package supports and lives in an
environment of its own, `.venv-protos`, because it cannot share one with the newest runtime.
"""

from __future__ import annotations

import argparse
import filecmp
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

import reference
from google.protobuf import descriptor_pb2

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
TARGET = ROOT / "src" / "tunevane" / "api"
TOOLS = ROOT / ".venv-protos"
PINS = ("grpcio-tools==1.74.0", "protobuf==6.33.6", "mypy-protobuf==5.1.0", "setuptools==80.9.0")
HEADER = '"""Generated from protos/ by protos/generate.py; never edited."""\n'


def tools() -> Path:
    """Returns the Python of the compiler's environment, which it makes at the first call."""
    python = TOOLS / "bin" / "python"
    stamp = TOOLS / "pins.txt"
    if stamp.is_file() and stamp.read_text() == "\n".join(PINS):
        return python
    venv.create(TOOLS, with_pip=True, clear=True)
    subprocess.run([python, "-m", "pip", "install", "--quiet", *PINS], check=True)
    stamp.write_text("\n".join(PINS))
    return python


def generate(into: Path) -> None:
    """Compiles every proto file into `into`, which becomes the package `tunevane.api`."""
    with tempfile.TemporaryDirectory() as scratch:
        files = sorted(str(path.relative_to(PROTOS)) for path in PROTOS.rglob("*.proto"))
        binaries = TOOLS / "bin"
        arguments = [
            "--proto_path=.",
            f"--python_out={scratch}",
            f"--grpc_python_out={scratch}",
            f"--mypy_out=quiet:{scratch}",
            f"--mypy_grpc_out=quiet:{scratch}",
            f"--plugin=protoc-gen-mypy={binaries / 'protoc-gen-mypy'}",
            f"--plugin=protoc-gen-mypy_grpc={binaries / 'protoc-gen-mypy_grpc'}",
        ]
        command = [tools(), "-m", "grpc_tools.protoc", *arguments, *files]
        subprocess.run(command, cwd=PROTOS, check=True)
        made = Path(scratch) / "tunevane" / "api"
        # A file without a service gets an empty grpc module, which nobody imports.
        for module in made.rglob("*_pb2_grpc.py"):
            if "class " not in module.read_text():
                module.unlink()
                module.with_suffix(".pyi").unlink(missing_ok=True)
        for folder in [made, *(path for path in made.rglob("*") if path.is_dir())]:
            (folder / "__init__.py").write_text(HEADER)
        shutil.rmtree(into, ignore_errors=True)
        shutil.copytree(made, into)


def described() -> str:
    """Returns the reference of all services and messages, as Markdown."""
    with tempfile.TemporaryDirectory() as scratch:
        files = sorted(str(path.relative_to(PROTOS)) for path in PROTOS.rglob("*.proto"))
        made = Path(scratch) / "all.binpb"
        arguments = ["--proto_path=.", "--include_source_info", f"--descriptor_set_out={made}"]
        subprocess.run([tools(), "-m", "grpc_tools.protoc", *arguments, *files], cwd=PROTOS, check=True)
        return reference.reference(descriptor_pb2.FileDescriptorSet.FromString(made.read_bytes()))


def differences(left: Path, right: Path) -> list[str]:
    """Lists the files, relative to both folders, that are not the same in both."""
    names = {
        str(path.relative_to(side))
        for side in (left, right)
        for path in side.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    _, mismatch, errors = filecmp.cmpfiles(left, right, sorted(names), shallow=False)
    return sorted([*mismatch, *errors])


def main() -> int:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description="Generate src/tunevane/api from protos/.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 on a difference")
    if not parser.parse_args().check:
        tools()
        generate(TARGET)
        reference.TARGET.parent.mkdir(parents=True, exist_ok=True)
        reference.TARGET.write_text(described(), encoding="utf-8")
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        tools()
        fresh = Path(scratch) / "api"
        generate(fresh)
        stale = [f"src/tunevane/api/{name}" for name in differences(fresh, TARGET)]
    if not reference.TARGET.is_file() or reference.TARGET.read_text(encoding="utf-8") != described():
        stale.append(str(reference.TARGET.relative_to(ROOT)))
    for name in stale:
        print(f"{name} is not what protos/ generates: run `make protos`", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    raise SystemExit(main())
