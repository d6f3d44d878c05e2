"""The process that runs wandb, for one run, crash-only.

It keeps nothing: whatever goes wrong it exits, and its parent starts another one and sends the run again
from the first event. Rows that the server has already are skipped by their step.
"""

from __future__ import annotations

from typing import Any

from tunevane_tracker.sinks.serving import Answers, serve

# wandb is imported late and is untyped where it matters, hence `Any` for its module and its run.


class Child:
    """Answers the parent's messages."""

    def __init__(self, answers: Answers) -> None:
        """Writes answers to `answers`."""
        self._answers = answers
        self._wandb: Any = None
        self._run: Any = None
        self._from_step = 0

    def handle(self, message: dict[str, Any]) -> bool:
        """Does what a message says and tells whether to go on."""
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
            self._answers.say("hello", version=None, base_url="", error=str(error))
            return
        self._wandb = wandb
        self._answers.say("hello", version=wandb.__version__, base_url=wandb.Settings().base_url)

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
            "program": "tunevane",
            # Without these `finish` waits for ever when the server is away.
            "finish_timeout": float(message["finish_seconds"]),
            "finish_timeout_raises": True,
            "init_timeout": 30.0,
            "x_file_stream_transmit_interval": message["transmit_seconds"],
            # By itself the Stop button of the web page would send this process a SIGINT.
            "stop_fn": lambda: self._answers.say("remark", what="stop"),
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
        self._answers.say(
            "started",
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
                self._answers.say("done", finished=True)
                return False
            if command["op"] == "summary":
                self._run.summary.update(values)
            elif command["sequence"] >= self._from_step:
                self._run.log({**values, **self._tables(command)}, step=command["sequence"], commit=True)
        self._answers.say("done", finished=False)
        return True

    def _tables(self, command: dict[str, Any]) -> dict[str, Any]:
        tables = command["tables"].items()
        return {name: self._wandb.Table(columns=table["columns"], data=table["data"]) for name, table in tables}


if __name__ == "__main__":
    serve(lambda answers: Child(answers).handle)
