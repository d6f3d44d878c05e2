"""What is generated into the docs is current, and the docs build without a warning."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def run(*words: str | Path) -> None:
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(
        [sys.executable, *words], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr + done.stdout


def test_the_pictures_are_what_the_rules_draw() -> None:
    run("docs/pictures.py", "--check")


def test_the_command_line_reference_is_what_the_commands_say(tmp_path: Path) -> None:
    target = tmp_path / "command-line.md"
    words = ("tunevane.cli.main", "utils", "docs", "--name", "tunevane", "--title", "Command line", "--output", target)
    run("-m", "typer", *words)
    committed = ROOT / "docs" / "reference" / "command-line.md"
    assert target.read_text("utf-8") == committed.read_text("utf-8"), "run `make docs`"


def test_the_docs_build_without_a_warning(tmp_path: Path) -> None:
    run("-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", tmp_path / "site")
    assert (tmp_path / "site" / "tutorial" / "index.html").is_file()
