"""The process that runs wandb, for one run, crash-only. It reads commands from stdin, a JSON object a line.

It keeps nothing: whatever goes wrong it exits, and its parent starts another one and sends the run again
from the first event. Rows that the server has already are skipped by their step.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any, BinaryIO

# wandb is imported late and is untyped where it matters, hence `Any` for its module and its run.


class Child:
    """Answers the parent's commands."""

    def __init__(self, answers: BinaryIO) -> None:
        """Writes answers to `answers`."""
        self._answers = answers
        self._wandb: Any = None
        self._run: Any = None
        self._from_step = 0

    def say(self, **message: object) -> None:
        """Sends an answer."""
        self._answers.write(json.dumps(message).encode() + b"\n")
        self._answers.flush()

    def handle(self, message: dict[str, Any]) -> bool:
        """Does what a command says and tells whether to go on."""
        if message["op"] == "hello":
            self._hello()
        elif message["op"] == "start":
            self._start(message)
        else:
            return self._commands(message["commands"])
        return True

    def _hello(self) -> None:
        try:
            import wandb
        except ImportError as error:
            self.say(op="hello", version=None, base_url="", error=str(error))
            return
        self._wandb = wandb
        self.say(op="hello", version=wandb.__version__, base_url=wandb.Settings().base_url)

    def _start(self, message: dict[str, Any]) -> None:
        online = bool(message["key"])
        wanted = {
            "mode": "online" if online else "offline",
            "base_url": message["base_url"],
            "api_key": message["key"] or None,
            "console": "off",
            "silent": True,
            # A public link tells nothing about this machine.
            "x_disable_stats": True,
            "x_disable_meta": True,
            "x_disable_machine_info": True,
            "x_save_requirements": False,
            "disable_git": True,
            "disable_code": True,
            "disable_job_creation": True,
            "host": "tunevane",
            "username": "tunevane",
            # Without these `finish` waits for ever when the server is away.
            "finish_timeout": float(message["finish_seconds"]),
            "finish_timeout_raises": True,
            "init_timeout": 30.0,
            "x_file_stream_transmit_interval": message["transmit_seconds"],
            # The Stop button of the web page would send this process a SIGINT.
            "stop_fn": _ignore_stop,
        }
        known = self._wandb.Settings.model_fields
        settings = self._wandb.Settings(**{name: value for name, value in wanted.items() if name in known})
        arguments = dict(message["arguments"])
        if online:
            arguments["resume"] = "allow"
        self._run = self._wandb.init(id=message["id"], config=message["config"], settings=settings, **arguments)
        self._run.define_metric("train/global_step", hidden=True)
        self._run.define_metric("epoch", hidden=True)
        for name in ("train/*", "lr/*"):
            self._run.define_metric(name, step_metric="train/global_step")
        for name in ("val/*", "metrics/*", "decisions/*"):
            self._run.define_metric(name, step_metric="epoch")
        self._from_step = self._run.starting_step if online else 0
        self.say(
            op="started",
            url=self._run.url or "",
            entity=self._run.entity or "",
            project=self._run.project or "",
            from_step=self._from_step,
        )

    def _commands(self, commands: list[dict[str, Any]]) -> bool:
        for command in commands:
            values = command["values"]
            if command["op"] == "finish":
                self._run.finish(exit_code=values["exit_code"])
                self.say(op="done", finished=True)
                return False
            if command["op"] == "summary":
                self._run.summary.update(values)
            elif command["sequence"] >= self._from_step:
                self._run.log(values, step=command["sequence"], commit=True)
        self.say(op="done", finished=False)
        return True


def _ignore_stop() -> None:
    """Lets the run go on: it is ended where it was started."""


def main() -> None:
    """Serves the parent until it closes the pipe or the run ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # What wandb prints must not get between the answers.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    child = Child(answers)
    for line in sys.stdin.buffer:
        try:
            if not child.handle(json.loads(line)):
                return
        except Exception as error:
            # The class only: a message of wandb may contain the key.
            child.say(op="failed", error=type(error).__name__)
            os._exit(1)
    # The parent is gone: its successor sends everything again.
    os._exit(1)


if __name__ == "__main__":
    main()
