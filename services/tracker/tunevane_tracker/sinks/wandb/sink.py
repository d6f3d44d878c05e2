"""The W&B sink: starts a process for each run, feeds it, and starts over when it dies."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlencode

from tunevane import log
from tunevane.api.type.v1.event_pb2 import Event
from tunevane_tracker.config import TrackerConfig
from tunevane_tracker.cursors import Cursors
from tunevane_tracker.journal import TrackedRun
from tunevane_tracker.notices import Notices
from tunevane_tracker.sinks.port import SinkDiedError, SinkUnavailableError
from tunevane_tracker.sinks.wandb.graphql import AwayError, RefusedError, history_rows
from tunevane_tracker.sinks.wandb.ladder import Account, Ladder
from tunevane_tracker.sinks.wandb.process import ChildDiedError, ChildProcess
from tunevane_tracker.sinks.wandb.rows import Command, Rows, clean, options

_log = log.get("tracker.wandb")

ARGUMENTS = ("entity", "group", "job_type", "name", "notes", "project", "tags")
"""Arguments of `wandb.init` that a run may choose; the others are the operator's."""

OFFLINE = "wandb-offline"
MISSING = "wandb-missing"
IGNORED = "wandb-arguments"


@dataclass
class _Session:
    """A run that is being mirrored."""

    process: ChildProcess
    account: Account
    rows: Rows
    entity: str
    project: str
    position: int = 0
    rows_sent: int = 0


class WandbSink:
    """Mirrors the runs that ask for it."""

    name = "wandb"

    def __init__(
        self,
        config: TrackerConfig,
        cursors: Cursors,
        notices: Notices,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        """Takes the settings; `environ` is the operator's environment."""
        self.workers = min(config.wandb_processes, 4)
        self._config = config
        self._cursors = cursors
        self._notices = notices
        self._environ = dict(os.environ if environ is None else environ)
        self._home = config.state_dir / "wandb"
        self._ladder = Ladder(self._home, self._environ, time.monotonic, offline=config.wandb == "offline")
        self._lock = threading.Lock()
        self._sessions: dict[str, _Session] = {}
        self._careful: set[str] = set()
        self._links: dict[str, Future[str | None]] = {}
        self._stopping = threading.Event()
        self._missing = threading.Event()

    @property
    def mode(self) -> str:
        """How W&B is used; empty before the first run needed it."""
        return "off" if self._config.wandb == "off" or self._missing.is_set() else self._ladder.kind

    @property
    def processes(self) -> dict[str, int]:
        """Process ids by the uid of the run."""
        with self._lock:
            return {uid: session.process.pid for uid, session in self._sessions.items()}

    def wants(self, run: TrackedRun) -> bool:
        """A run is mirrored if one of its callbacks is `wandb-logger`."""
        return self._config.wandb != "off" and options(run.config) is not None

    def position(self, run: TrackedRun, delivered: int) -> int:
        """Without a process the run is sent again from the first event, unless W&B has all of it."""
        with self._lock:
            session = self._sessions.get(run.uid)
        if session is not None:
            return session.position
        return delivered if self._cursors.get(self.name, run).finished else 0

    def link(self, run: TrackedRun, timeout_seconds: float) -> str | None:
        """Waits for the address of the run's page at W&B; None when there is none, or not in time."""
        try:
            return self._link(run).result(timeout_seconds)
        except FutureTimeoutError:
            return None

    def deliver(self, run: TrackedRun, events: Sequence[Event]) -> None:
        """Hands the next events to the run's process; starts one if there is none."""
        if not events or self._cursors.get(self.name, run).finished:
            return
        session = self._sessions.get(run.uid) or self._open(run)
        self._go_online(run, session)
        size = 1 if run.uid in self._careful else len(events)
        for begin in range(0, len(events), size):
            self._send(run, session, events[begin : begin + size])

    def put_aside(self, run: TrackedRun, sequence: int) -> None:
        """The event is left out of what is sent from now on."""
        self._careful.discard(run.uid)

    def close(self) -> None:
        """Ends all processes; unfinished runs are sent again after the next start."""
        with self._lock:
            self._stopping.set()
            sessions = list(self._sessions.values())
            self._sessions.clear()
        for session in sessions:
            session.process.kill()

    def _link(self, run: TrackedRun) -> Future[str | None]:
        with self._lock:
            return self._links.setdefault(run.uid, Future())

    def _answer_link(self, run: TrackedRun, link: str | None) -> None:
        future = self._link(run)
        if not future.done():
            future.set_result(link)

    def _folder(self, run: TrackedRun) -> Path:
        return self._home / "runs" / run.uid

    def _open(self, run: TrackedRun) -> _Session:
        if self._missing.is_set():
            self._tell_missing(run)
        with self._lock:
            if self._stopping.is_set():
                raise SinkUnavailableError("the tracker is stopping")
            if len(self._sessions) >= self._config.wandb_processes:
                raise SinkUnavailableError(f"waits until one of {len(self._sessions)} other runs has ended")
        folder = self._folder(run)
        # An offline run is never continued: two files of one run would be merged into doubled rows.
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        process = ChildProcess(self._home, folder, self._environ)
        try:
            session = self._start(run, process)
        except ChildDiedError as error:
            process.kill()
            self._answer_link(run, None)
            # A key that has been withdrawn looks like this.
            self._ladder.forget()
            raise SinkDiedError(0, str(error)) from error
        except BaseException:
            process.kill()
            self._answer_link(run, None)
            raise
        with self._lock:
            self._sessions[run.uid] = session
            stopping = self._stopping.is_set()
        if stopping:
            self._end(run, session)
            raise SinkUnavailableError("the tracker is stopping")
        return session

    def _start(self, run: TrackedRun, process: ChildProcess) -> _Session:
        hello = process.ask({"op": "hello"})
        if hello["version"] is None:
            self._missing.set()
            self._tell_missing(run)
        base_url = self._config.wandb_base_url or self._environ.get("WANDB_BASE_URL") or str(hello["base_url"])
        account = self._ladder.account(base_url)
        if account.kind == "offline" and self._cursors.get(self.name, run).url:
            # A run that is at the server already waits for it; a second half offline would be another run.
            self._ladder.forget()
            raise SinkUnavailableError(account.reason)
        if account.kind == "offline":
            text = (
                f"Weights & Biases: offline, because {account.reason}; "
                f"upload the run later with: wandb sync {self._folder(run).resolve()}/wandb/offline-run-*"
            )
            self._notices.add(run, OFFLINE, text).result()
        chosen = options(run.config) or {}
        answer = process.ask(
            {
                "op": "start",
                "key": account.key,
                "base_url": account.base_url,
                "id": run.uid,
                "config": clean(run.config),
                "arguments": self._arguments(run, chosen),
                "finish_seconds": self._config.wandb_finish_seconds,
                "transmit_seconds": self._config.wandb_transmit_seconds,
            }
        )
        url = str(answer["url"])
        self._cursors.set_url(self.name, run, url).result()
        # The claim link of an anonymous run is a secret of the run's own log.
        claim = f"{url}?{urlencode({'apiKey': account.key})}" if account.kind == "anonymous" else url
        self._answer_link(run, claim if url else None)
        return _Session(process, account, Rows(chosen), str(answer["entity"]), str(answer["project"]))

    def _tell_missing(self, run: TrackedRun) -> NoReturn:
        text = "Weights & Biases: nothing is mirrored, because its package is missing: install tunevane[tracker]"
        self._notices.add(run, MISSING, text).result()
        self._answer_link(run, None)
        raise SinkUnavailableError("the package wandb is not installed")

    def _arguments(self, run: TrackedRun, chosen: Mapping[str, object]) -> dict[str, object]:
        wanted = chosen.get("wandb_args")
        wanted = wanted if isinstance(wanted, Mapping) else {}
        ignored = sorted(str(name) for name in wanted if name not in ARGUMENTS)
        if ignored:
            text = f"Weights & Biases: wandb_args may hold {', '.join(ARGUMENTS)}; ignored: {', '.join(ignored)}"
            self._notices.add(run, IGNORED, text).result()
        arguments: dict[str, object] = {"project": self._config.wandb_project, "name": run.name}
        return arguments | {str(name): clean(value) for name, value in wanted.items() if name in ARGUMENTS}

    def _go_online(self, run: TrackedRun, session: _Session) -> None:
        """Starts an offline run over once the server is back."""
        if session.account.kind == "offline" and self._ladder.account(session.account.base_url).kind != "offline":
            self._end(run, session)
            raise SinkUnavailableError("W&B can be reached now: the run is sent from its first event")

    def _send(self, run: TrackedRun, session: _Session, events: Sequence[Event]) -> None:
        commands: list[Command] = [command for event in events for command in session.rows.commands(event)]
        finishes = any(command.op == "finish" for command in commands)
        try:
            if commands:
                timeout = 90.0 + (self._config.wandb_finish_seconds if finishes else 0)
                session.process.ask(
                    {"op": "commands", "commands": [command.as_json() for command in commands]}, timeout
                )
        except ChildDiedError as error:
            alone = run.uid in self._careful
            # Next time one event at a time, to learn which one it is.
            self._careful.add(run.uid)
            self._end(run, session)
            # The end of a run waits for the server, so it is never the event that is to blame.
            guilty = events[0].sequence if alone and not finishes else 0
            raise SinkDiedError(guilty, str(error)) from error
        session.rows_sent += sum(command.op == "row" for command in commands)
        if finishes:
            self._finished(run, session, events[-1].sequence)
        session.position = events[-1].sequence

    def _finished(self, run: TrackedRun, session: _Session, sequence: int) -> None:
        session.process.wait(10.0)
        self._verify(run, session)
        self._cursors.finish(self.name, run, sequence).result()
        with self._lock:
            self._sessions.pop(run.uid, None)
            self._careful.discard(run.uid)
        if session.account.kind != "offline":
            shutil.rmtree(self._folder(run), ignore_errors=True)
        _log.info("run mirrored run=%s mode=%s", run.name, session.account.kind)

    def _verify(self, run: TrackedRun, session: _Session) -> None:
        """Asks the server whether it has all rows: that `finish` returned says nothing about it."""
        if session.account.kind == "offline":
            return
        try:
            found = history_rows(
                session.account.base_url, session.account.key, session.entity, session.project, run.uid
            )
        except (AwayError, RefusedError) as error:
            self._end(run, session)
            raise SinkUnavailableError(f"it is not known whether W&B has all rows: {error}") from error
        if found is not None and found < session.rows_sent:
            self._end(run, session)
            raise SinkUnavailableError(f"W&B has {found} of {session.rows_sent} rows; the rest is sent again")

    def _end(self, run: TrackedRun, session: _Session) -> None:
        with self._lock:
            self._sessions.pop(run.uid, None)
        session.process.kill()
