"""Opens a run at W&B: starts its process, climbs the ladder, and tells the run's log what people have to know."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from tunevane import log
from tunevane.callback.wandb_logger import ARGUMENTS
from tunevane_tracker.journal import TrackedRun
from tunevane_tracker.sinks.context import SinkContext
from tunevane_tracker.sinks.port import SinkDiedError, SinkUnavailableError
from tunevane_tracker.sinks.process import ChildDiedError, ChildProcess
from tunevane_tracker.sinks.wandb.environment import environment
from tunevane_tracker.sinks.wandb.ladder import Account, Ladder
from tunevane_tracker.sinks.wandb.links import Links
from tunevane_tracker.sinks.wandb.rows import Rows, clean, options
from tunevane_tracker.sinks.wandb.session import Session

_log = log.get("tracker.wandb")

OFFLINE = "wandb-offline"
MISSING = "wandb-missing"
IGNORED = "wandb-arguments"


class PackageMissingError(Exception):
    """The wandb package is not installed; the run's log says so."""


class Opener:
    """Starts processes."""

    def __init__(self, context: SinkContext, home: Path, ladder: Ladder, links: Links) -> None:
        """Keeps everything of W&B below `home`."""
        self._config = context.config
        self._cursors = context.cursors
        self._notices = context.notices
        self._environ = context.environ
        self._stop = context.stop
        self._home = home
        self._ladder = ladder
        self._links = links
        self._base_url = self._config.wandb_base_url or self._environ.get("WANDB_BASE_URL") or ""
        self._missing = threading.Event()

    @property
    def missing(self) -> bool:
        """Tells whether the package was found to be missing."""
        return self._missing.is_set()

    def folder(self, run: TrackedRun) -> Path:
        """Returns where a run's files are."""
        return self._home / "runs" / run.uid

    def account_now(self) -> Account:
        """Climbs the ladder again when it ended offline."""
        if not self._base_url:
            folder = self._home / "hello"
            folder.mkdir(parents=True, exist_ok=True)
            process = self._process(folder)
            try:
                self._hello(process)
            finally:
                process.kill()
        if self._ladder.kind == "offline":
            self._ladder.forget()
        return self._ladder.account(self._base_url)

    def open(self, run: TrackedRun, *, online_before: bool) -> Session:
        """Opens a run from its first event.

        Args:
            run: Which.
            online_before: Whether it has a place at the server; it is not kept offline then.

        Raises:
            PackageMissingError: Nothing can be done.
            SinkUnavailableError: Not now.
            SinkDiedError: The process did.

        """
        if self._missing.is_set():
            self._tell_missing(run)
        folder = self.folder(run)
        # An offline run is never continued: two files of one run would be merged into doubled rows.
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        process = self._process(folder, lambda remark: self._remark(run, remark))
        try:
            return self._open(run, process, online_before)
        except ChildDiedError as error:
            process.kill()
            self._links.answer(run, None)
            # A key that has been withdrawn looks like this.
            self._ladder.forget()
            raise SinkDiedError(0, str(error)) from error
        except BaseException:
            process.kill()
            self._links.answer(run, None)
            raise

    def _remark(self, run: TrackedRun, remark: Mapping[str, object]) -> None:
        if remark.get("what") == "stop":
            _log.info("stop was pressed at wandb run=%s", run.name)
            self._stop(run)

    def _process(self, folder: Path, on_remark: Callable[[dict[str, object]], None] | None = None) -> ChildProcess:
        env = environment(self._home, folder, self._environ)
        if self._base_url:
            # Parts of wandb 0.27 ask the default server, whatever the settings of the run say.
            env["WANDB_BASE_URL"] = self._base_url
        return ChildProcess("wandb", ["-m", "tunevane_tracker.sinks.wandb.child"], folder, env, on_remark)

    def _hello(self, process: ChildProcess) -> None:
        hello = process.ask({"op": "hello"})
        if hello["version"] is None:
            self._missing.set()
        # The default server is another one since wandb 0.31.
        self._base_url = self._base_url or str(hello["base_url"])

    def _open(self, run: TrackedRun, process: ChildProcess, online_before: bool) -> Session:
        self._hello(process)
        if self._missing.is_set():
            process.kill()
            self._tell_missing(run)
        account = self._ladder.account(self._base_url)
        if account.kind == "offline":
            if online_before:
                # It waits for the server; a second half offline would be another run.
                self._ladder.forget()
                raise SinkUnavailableError(account.reason)
            self._tell_offline(run, account)
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
        self._cursors.set_url("wandb", run, url).result()
        self._links.found(run, url, account)
        return Session(run.uid, process, account, Rows(chosen), str(answer["entity"]), str(answer["project"]))

    def _tell_offline(self, run: TrackedRun, account: Account) -> None:
        text = (
            f"Weights & Biases: offline, because {account.reason}; it is tried again every "
            f"{self._config.wandb_retry_seconds:.0f} s, or upload the run yourself with: "
            f"wandb sync {self.folder(run).resolve()}/wandb/offline-run-*"
        )
        self._notices.add(run, OFFLINE, text).result()

    def _tell_missing(self, run: TrackedRun) -> None:
        text = "Weights & Biases: nothing is mirrored, because its package is missing: install tunevane[tracker]"
        self._notices.add(run, MISSING, text).result()
        self._links.answer(run, None)
        raise PackageMissingError

    def _arguments(self, run: TrackedRun, chosen: Mapping[str, object]) -> dict[str, object]:
        wanted = chosen.get("wandb_args")
        wanted = wanted if isinstance(wanted, Mapping) else {}
        ignored = sorted(str(name) for name in wanted if name not in ARGUMENTS)
        if ignored:
            text = f"Weights & Biases: wandb_args may hold {', '.join(ARGUMENTS)}; ignored: {', '.join(ignored)}"
            self._notices.add(run, IGNORED, text).result()
        arguments: dict[str, object] = {"project": self._config.wandb_project, "name": run.name}
        return arguments | {str(name): clean(value) for name, value in wanted.items() if name in ARGUMENTS}
