"""A sink's process gets events in parts, answers in order, may speak up by itself, and is known to be dead."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from support.tracker_events import whole_run
from support.waits import eventually
from tunevane_tracker.sinks.hosted import parts
from tunevane_tracker.sinks.process import ChildDiedError, ChildProcess

CODE = """
import sys
from tunevane_tracker.sinks.serving import serve

def make(answers):
    def handle(message):
        if message["op"] == "echo":
            print("what a library prints gets between no answers")
            answers.say("remark", what="stop")
            answers.say("done", said=message["said"])
        elif message["op"] == "fail":
            raise RuntimeError("a key: s3cr3t")
        elif message["op"] == "hang":
            sys.stdin.buffer.read()
        return message["op"] != "end"
    return handle

serve(make)
"""


def test_events_go_in_parts_of_limited_size_and_one_by_one_when_asked() -> None:
    events = whole_run(3)
    assert [part for each in parts(events, 200) for part in each] == events
    assert all(sum(event.ByteSize() for event in each) <= 200 for each in parts(events, 200))
    assert len(list(parts(events, 200))) < len(events)
    assert [len(each) for each in parts(events, 1)] == [1] * len(events)
    assert list(parts([], 200)) == []


def start(folder: Path, heard: list[dict[str, object]]) -> ChildProcess:
    return ChildProcess("test", ["-c", CODE], folder, os.environ, heard.append)


def test_answers_come_in_order_and_remarks_beside_them(tmp_path: Path) -> None:
    heard: list[dict[str, object]] = []
    process = start(tmp_path, heard)
    assert [process.ask({"op": "echo", "said": number})["said"] for number in range(3)] == [0, 1, 2]
    process.kill()
    assert heard == [{"op": "remark", "what": "stop"}] * 3
    assert "what a library prints" in (tmp_path / "process.log").read_text()


def test_a_failure_is_told_by_its_class_only(tmp_path: Path) -> None:
    process = start(tmp_path, [])
    with pytest.raises(ChildDiedError, match=r"the test process failed \(RuntimeError\)"):
        process.ask({"op": "fail"})
    with pytest.raises(ChildDiedError):
        process.ask({"op": "echo", "said": 1})
    assert "s3cr3t" not in (tmp_path / "process.log").read_text()


def test_one_that_does_not_answer_is_killed(tmp_path: Path) -> None:
    process = start(tmp_path, [])
    assert process.ask({"op": "echo", "said": 1}) == {"op": "done", "said": 1}
    with pytest.raises(ChildDiedError, match="did not answer within 0 s"):
        process.ask({"op": "hang"}, 0.2)


def test_what_it_started_dies_with_it(tmp_path: Path) -> None:
    code = "import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', 'input()'], stdin=0).pid, flush=True)"
    process = ChildProcess("test", ["-c", f"{code}; sys.stdin.read()"], tmp_path, os.environ)
    pid = int(str(process._answers.get(timeout=20).decode()))
    process.kill()

    def gone() -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except (FileNotFoundError, ProcessLookupError):
            return True

    eventually(gone)
