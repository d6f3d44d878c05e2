"""The contract stays compatible with the last release: buf refuses what would break clients."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUF = ROOT / "node_modules" / ".bin" / "buf"


def breaking(folder: Path) -> subprocess.CompletedProcess[str]:
    if not BUF.exists():
        sentence = "needs buf, which `make check` installs with npm"
        if os.environ.get("NO_SKIPS"):
            pytest.fail(sentence)
        pytest.skip(sentence)
    words: list[str | Path] = [BUF, "breaking", "--against", ROOT / "protos" / "baseline.binpb"]
    return subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=60)


@pytest.fixture
def protos(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "protos", tmp_path / "protos")
    return tmp_path / "protos"


def test_the_contract_breaks_nobody(protos: Path) -> None:
    done = breaking(protos)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("was", "becomes", "complaint"),
    [
        ("string name = 1;", "string name = 101;", 'Previously present field "1" with name "name" on message "Run"'),
        ("int64 last_sequence = 5;", "string last_sequence = 5;", 'Field "5" with name "last_sequence"'),
        ("  RUN_STATE_CANCELLED = 6;", "  RUN_STATE_ENDED = 6;", 'Enum value "6" on enum "RunState" changed name'),
    ],
)
def test_a_change_that_breaks_clients_is_refused(protos: Path, was: str, becomes: str, complaint: str) -> None:
    file = protos / "tunevane" / "api" / "trainer" / "v1" / "run.proto"
    text = file.read_text(encoding="utf-8")
    assert was in text
    file.write_text(text.replace(was, becomes, 1), encoding="utf-8")
    done = breaking(protos)
    assert done.returncode != 0
    assert complaint in done.stdout


def test_a_new_field_is_welcome(protos: Path) -> None:
    file = protos / "tunevane" / "api" / "trainer" / "v1" / "run.proto"
    text = file.read_text(encoding="utf-8").replace("message Run {", "message Run {\n  string fresh = 999;\n", 1)
    file.write_text(text, encoding="utf-8")
    done = breaking(protos)
    assert done.returncode == 0, done.stdout
