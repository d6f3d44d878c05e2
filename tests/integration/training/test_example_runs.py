"""The examples run at small size, each script with its own file, and a run learns from pictures and names."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.stack import local_services
from tunevane import runfile

EXAMPLES = Path(__file__).parents[3] / "examples"
NAMES = sorted(each.parent.name for each in EXAMPLES.glob("*/run.yaml"))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("home")
    with local_services(folder):
        yield folder


def script(name: str, *words: str) -> str:
    command = [sys.executable, str(EXAMPLES / name / "run.py"), *words]
    done = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ), timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def runs(name: str, folder: Path) -> str:
    said = script(name, "--small", "--out", str(folder))
    assert "Finished 🚀" in said
    assert (folder / "run.yaml").read_bytes() == (EXAMPLES / name / "run.yaml").read_bytes()
    return said


def test_pictures_with_labels(home: Path, tmp_path: Path) -> None:
    found = re.search(
        r"average_precision' before fine-tuning:  (\S+) after fine-tuning: (\S+)", runs("digits", tmp_path)
    )
    assert found is not None
    before, after = map(float, found.groups())
    assert after > before + 0.1


@pytest.mark.nightly
@pytest.mark.parametrize("name", ["pen_drawings", "picture_names"])
def test_pictures_of_emoji(home: Path, tmp_path: Path, name: str) -> None:
    assert "Artifact   " in runs(name, tmp_path)


def test_every_example_has_a_script_a_file_and_a_place_in_the_docs() -> None:
    page = (EXAMPLES.parent / "docs" / "how-to" / "examples.md").read_text(encoding="utf-8")
    assert NAMES == ["digits", "emoji_names", "pen_drawings", "picture_names"]
    for name in NAMES:
        assert (EXAMPLES / name / "run.py").exists()
        assert f"examples/{name}" in page


@pytest.mark.parametrize("name", NAMES)
def test_its_file_is_a_run(name: str, tmp_path: Path) -> None:
    for table in ("train.csv", "queries.csv", "index.csv", "test.csv"):
        (tmp_path / table).write_text("query,document\na,b\n", encoding="utf-8")
    (tmp_path / "run.yaml").write_bytes((EXAMPLES / name / "run.yaml").read_bytes())
    read = runfile.read(tmp_path / "run.yaml")
    assert read["train_data"] == str(tmp_path / "train.csv")
