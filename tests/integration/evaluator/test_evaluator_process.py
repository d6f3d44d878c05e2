"""The evaluator as a process: quick to start, and nothing of it stays when it is killed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil

HOLD_AN_ENGINE = """
import sys
from pathlib import Path
from tunevane_evaluator.index.child import EdgeProcess
process = EdgeProcess(Path(sys.argv[1]))
process.connection()
print(process.pid, flush=True)
sys.stdin.read()
"""

HEAVY = "{'torch', 'transformers', 'sentence_transformers', 'qdrant_client', 'qdrant_edge'}"


def test_the_engine_ends_when_the_evaluator_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD_AN_ENGINE, str(tmp_path / "edge")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as evaluator:
        assert evaluator.stdout is not None
        engine = psutil.Process(int(evaluator.stdout.readline()))
        evaluator.kill()
        assert psutil.wait_procs([engine], timeout=10)[1] == []


def test_starting_the_service_imports_nothing_heavy() -> None:
    code = f"import sys, tunevane_evaluator.service; print(sorted({HEAVY} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_command_serves_and_ends_with_success(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "TUNEVANE_EVALUATOR_PORT": "0",
        "TUNEVANE_EVALUATOR_STATE_DIR": str(tmp_path / "state"),
    }
    command = [sys.executable, "-m", "tunevane", "serve", "evaluator"]
    with subprocess.Popen(command, env=environment, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        lines = []
        for line in process.stderr:
            lines.append(line)
            if "serving service=evaluator" in line:
                process.terminate()
        assert process.wait(20) == 0
    assert "stopped service=evaluator" in lines[-1]
