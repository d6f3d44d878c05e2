"""A log line is one line, says when and who, and shows no secret."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

_PROGRAM = """
from tunevane import log
log.setup("demo")
log.get("demo").info("hello name=%s", "two\\nlines")
log.get("demo").debug("not shown")
log.get("demo").warning("token=swordfish Authorization: Bearer swordfish {'api_key': 'swordfish'} tokens=5")
try:
    raise ValueError("password=swordfish")
except ValueError:
    log.get("demo").exception("it failed")
log.setup("demo")
log.get("demo").info("once")
with log.about(run="runs/a", epoch=0):
    with log.about(plan="two words"):
        log.get("other").warning("slow seconds=%d", 3)
    log.get("other").warning("done")
log.get("other").warning("outside")
"""


def test_lines() -> None:
    done = subprocess.run([sys.executable, "-c", _PROGRAM], check=True, capture_output=True, text=True)
    assert done.stdout == ""
    assert "swordfish" not in done.stderr
    lines = done.stderr.splitlines()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z INFO tunevane\.demo hello name=two\\nlines", lines[0])
    assert lines[1].endswith("token=*** Authorization: *** {'api_key': '***'} tokens=5")
    assert lines[2].endswith("it failed")
    assert lines[3].startswith("Traceback")
    assert [line.endswith(" once") for line in lines].count(True) == 1
    told = [line.partition("tunevane.other ")[2] for line in lines[-3:]]
    assert told == ["slow seconds=3 run=runs/a epoch=0 plan='two words'", "done run=runs/a epoch=0", "outside"]


def test_lines_for_those_who_collect_them() -> None:
    environment = {**os.environ, "TUNEVANE_LOG_FORMAT": "json"}
    done = subprocess.run([sys.executable, "-c", _PROGRAM], check=True, capture_output=True, text=True, env=environment)
    assert "swordfish" not in done.stderr
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert lines[0]["message"] == "hello name=two\nlines"
    assert (lines[0]["level"], lines[0]["logger"]) == ("INFO", "tunevane.demo")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", lines[0]["time"])
    assert lines[2]["exception"].startswith("Traceback")
    slow, done_line, outside = lines[-3:]
    assert (slow["message"], slow["run"], slow["epoch"], slow["plan"]) == ("slow seconds=3", "runs/a", 0, "two words")
    assert (done_line["run"], "plan" in done_line) == ("runs/a", False)
    assert "run" not in outside
