"""The contract: generated code is current, imports are light, names and errors agree."""

import inspect
import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

import tunevane
from tunevane import errors, plugins

ROOT = Path(__file__).resolve().parents[2]


def python(code: str) -> str:
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_generating_the_code_again_changes_nothing() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "protos" / "generate.py", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


LOWEST = ("grpcio==1.74.0", "protobuf==6.31.1")


def test_the_generated_code_loads_with_the_oldest_versions_that_are_supported() -> None:
    home = ROOT / ".venv-lowest"
    interpreter = home / "bin" / "python"
    if not (home / "ready").is_file():
        venv.create(home, with_pip=True, clear=True)
        subprocess.run([interpreter, "-m", "pip", "install", "--quiet", *LOWEST], check=True, capture_output=True)
        (home / "ready").touch()
    api = ROOT / "src" / "tunevane" / "api"
    names = [".".join(path.relative_to(ROOT / "src").with_suffix("").parts) for path in api.rglob("*_pb2*.py")]
    assert len(names) > 12
    code = f"import importlib; [importlib.import_module(name) for name in {sorted(names)!r}]"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        [interpreter, "-W", "error", "-c", code], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr


def test_importing_tunevane_is_light() -> None:
    heavy = "('torch', 'sentence_transformers', 'wandb')"
    code = f"import sys, tunevane, tunevane.callback; print([m for m in {heavy} if m in sys.modules])"
    assert python(code).strip() == "[]"
    assert python("import sys, tunevane; print('grpc' in sys.modules)").strip() == "False"


def test_importing_tunevane_takes_under_100_milliseconds() -> None:
    code = "import time; began = time.perf_counter(); import tunevane; print(time.perf_counter() - began)"
    assert min(float(python(code)) for _ in range(5)) < 0.1


@pytest.mark.parametrize(
    "module", ["tunevane_trainer.service", "tunevane_tracker.service", "tunevane_evaluator.service", "tunevane.session"]
)
def test_services_start_without_torch(module: str) -> None:
    code = f"import sys, {module}; print('torch' in sys.modules)"
    assert python(code).strip() == "False"


def test_describing_everything_that_is_registered_needs_no_torch() -> None:
    code = (
        "import sys; from tunevane_trainer.trainer_servicer import components;"
        "print(len({(c.kind, c.name) for c in components()}) == len(components()), 'torch' in sys.modules)"
    )
    assert python(code).strip() == "True False"


def test_every_public_name_is_there_and_described() -> None:
    for name in tunevane.__all__:
        assert inspect.getdoc(getattr(tunevane, name)), name
    assert set(tunevane.__all__) <= set(dir(tunevane))
    with pytest.raises(AttributeError, match="no attribute 'fitt'"):
        tunevane.fitt  # noqa: B018


@pytest.mark.parametrize("group", ["callbacks", "models", "losses"])
def test_every_entry_point_loads_under_its_own_name(group: str) -> None:
    loaded = plugins.load_all(group)
    assert loaded
    assert {name: getattr(component, "name", None) for name, component in loaded.items()} == {
        name: name for name in loaded
    }


def test_every_error_has_a_reason_of_its_own() -> None:
    reasons = [cls.reason for cls in errors.walk()]
    assert len(reasons) == len(set(reasons))
