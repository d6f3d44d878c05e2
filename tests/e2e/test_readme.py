"""The README tells the truth: its Python snippets run, as one program, in the order they stand."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import tunevane
from support.stack import local_services

README = Path(__file__).resolve().parents[2] / "README.md"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with local_services(tmp_path / "home"):
        tunevane.connect()
        monkeypatch.chdir(tmp_path)
        yield tmp_path


def test_the_snippets_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    snippets = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert len(snippets) >= 4
    space: dict[str, object] = {}
    for snippet in snippets:
        exec(compile(snippet, str(README), "exec"), space)
    run = space["run"]
    assert isinstance(run, tunevane.Run)
    assert run.status() == "SUCCEEDED"
    assert "Finished 🚀" in capsys.readouterr().out


def test_the_two_commands_are_in_the_makefile() -> None:
    makefile = (README.parent / "Makefile").read_text(encoding="utf-8")
    for command in ("demo", "test"):
        assert f"make {command}" in README.read_text(encoding="utf-8")
        assert f"\n{command}:" in makefile
