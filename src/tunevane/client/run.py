"""A run as its user sees it."""

from __future__ import annotations

import json
import math
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from google.protobuf import json_format

from tunevane.api.trainer.v1 import run_pb2, trainer_service_pb2
from tunevane.api.type.v1 import blob_pb2, event_pb2
from tunevane.client.connection import Connection
from tunevane.core import bundles
from tunevane.core.history import DecisionRecord, History, fold
from tunevane.core.transcript import Transcript
from tunevane.errors import RunFailedError, RunInProgressError, RunPreparingError
from tunevane.rpc.blob_client import Progress

_ENDED = (run_pb2.RUN_STATE_SUCCEEDED, run_pb2.RUN_STATE_FAILED, run_pb2.RUN_STATE_CANCELLED)


class Run:
    """One fine-tuning. Everything is asked of the service, so several processes may look at one run."""

    def __init__(self, connection: Connection, name: str) -> None:
        """Points at a run; `name` is its short name."""
        self._connection = connection
        self._name = name.removeprefix("runs/")

    def __repr__(self) -> str:
        return f"<Run {self._name} at {self._connection.target}>"

    @property
    def name(self) -> str:
        """Short name, for example `brisk-vane-4821`."""
        return self._name

    @property
    def resource(self) -> str:
        """Resource name, `runs/{run}`."""
        return f"runs/{self._name}"

    def _get(self) -> run_pb2.Run:
        return self._connection.get_run(self.resource)

    def status(self) -> str:
        """Returns `PENDING`, `RUNNING`, `CANCELLING`, `SUCCEEDED`, `FAILED` or `CANCELLED`."""
        return run_pb2.RunState.Name(self._get().state).removeprefix("RUN_STATE_")

    @property
    def config(self) -> dict[str, object]:
        """What was asked for, as JSON-like values."""
        found: dict[str, object] = json_format.MessageToDict(self._get().spec, preserving_proto_field_name=True)
        return found

    @property
    def failure_reason(self) -> str:
        """Why the run failed, one sentence; empty unless it did."""
        return self._get().failure_reason

    @property
    def artifact_id(self) -> str:
        """Id of the artifact.

        Raises:
            RunInProgressError: The run has not ended yet.
            RunFailedError: It ended without an artifact.

        """
        return bundles.digest(self._ended().result.artifact)[:32]

    def _ended(self) -> run_pb2.Run:
        run = self._get()
        if run.state not in _ENDED:
            raise RunInProgressError(f"run '{self._name}' is still going on; wait for its end, or look at live metrics")
        if run.state != run_pb2.RUN_STATE_SUCCEEDED:
            why = f": {run.failure_reason}" if run.failure_reason else ""
            word = "was cancelled" if run.state == run_pb2.RUN_STATE_CANCELLED else "failed"
            raise RunFailedError(f"run '{self._name}' {word}{why}")
        return run

    def events(self, *, follow: bool = False) -> Iterator[event_pb2.Event]:
        """Yields the run's events so far, or until its end with `follow`."""
        return self._connection.watch(self.resource, follow=follow)

    def wait(self) -> str:
        """Waits for the end and returns the final status."""
        for _ in self.events(follow=True):
            pass
        return self.status()

    def logs(self) -> str:
        """Returns the log so far.

        Raises:
            RunPreparingError: The run has not started yet.

        """
        run = self._get()
        if not run.HasField("start_time") and run.state not in _ENDED:
            raise RunPreparingError(f"run '{self._name}' has not started yet; stream_logs() waits for it")
        transcript = Transcript()
        return "\n".join(line for event in self.events() for line in transcript.lines(event))

    def stream_logs(self) -> Iterator[str]:
        """Yields every line of the log once, in order, until the run ends; survives a dropped connection."""
        transcript = Transcript()
        for event in self.events(follow=True):
            yield from transcript.lines(event)

    def history(self) -> History:
        """Returns metrics of every epoch and all decisions, so far."""
        return fold(self.events())

    def decisions(self) -> list[DecisionRecord]:
        """Lists what the callbacks concluded, in order."""
        return self.history().decisions

    def metrics(self, *, live: bool = False) -> dict[str, dict[str, float]]:
        """Returns `{"before": {...}, "after": {...}}`.

        Args:
            live: While the run goes on, `after` holds the last epoch's metrics.

        Raises:
            RunInProgressError: The run has not ended, and `live` was not asked for.
            RunFailedError: It ended without an artifact.

        """
        if not live:
            self._ended()
        history = self.history()
        after = history.after
        if live and not after and history.epochs:
            after = {name: value for name, value in history.epochs[-1].metrics.items() if name in history.before}
        return {"before": history.before, "after": after}

    def display_metrics(self) -> None:
        """Prints metrics before and after fine-tuning side by side, the change, and its interval where it is known.

        Raises:
            RunInProgressError: The run has not ended yet.
            RunFailedError: It ended without an artifact.

        """
        from tunevane.client import display

        self._ended()
        display.print_metrics(self.history())

    def example_results(self) -> dict[str, dict[str, object]]:
        """Returns example results, `{"before": {evaluation: ...}, "after": {evaluation: ...}}`.

        Empty where no evaluation gathered any.
        """
        result = self._ended().result
        found = {}
        for stage, ref in (("before", result.examples_before), ("after", result.examples_after)):
            found[stage] = self._json(ref) if ref.blake3 else {}
        return found

    def _json(self, ref: blob_pb2.BlobRef) -> dict[str, object]:
        self._connection.blobs.fetch([ref], self._connection.store)
        loaded: dict[str, object] = json.loads(self._connection.store.read(ref))
        return loaded

    def display_examples(self, k: int = 5) -> None:
        """Shows the same queries before and after fine-tuning, with their `k` top matches.

        A notebook shows pictures, and so does a terminal that can: kitty and iTerm by their protocols, others by
        coloured characters.

        Raises:
            RunInProgressError: The run has not ended yet.
            RunFailedError: It ended without an artifact.

        """
        from tunevane.client import display

        display.print_examples(self.example_results(), k)

    def display_decisions(self) -> None:
        """Prints what was decided at each epoch end, which epoch was kept and why, so far or in the end."""
        from tunevane.client import display

        display.print_decisions(self.history())

    def watch(self) -> str:
        """Shows progress bars and the log until the run ends, and returns the final status."""
        from tunevane.client import display

        display.watch(self.events(follow=True))
        return self.status()

    def save_artifact(self, directory: str | Path, progress: Progress | None = None) -> Path:
        """Downloads the model into `directory/<run name>` and returns that folder.

        It loads with `SentenceTransformer(folder)` and also holds `run.json`, `metrics.json` and `examples.json`.

        Args:
            directory: Made where there is none; a folder of the run's name in it is replaced.
            progress: Called with bytes done and bytes to do.

        Raises:
            RunInProgressError: The run has not ended yet.
            RunFailedError: It ended without an artifact.

        """
        run = self._ended()
        artifact = run.result.artifact
        self._connection.blobs.fetch(bundles.refs(artifact), self._connection.store, progress)
        parent = Path(directory).expanduser()
        parent.mkdir(parents=True, exist_ok=True)
        # The folder appears whole or not at all.
        scratch = Path(tempfile.mkdtemp(dir=parent, prefix=f".{self._name}-"))
        try:
            for file in artifact.files:
                place = scratch / file.path
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(self._connection.store.path(file.blob), place)
            self._write(scratch / "run.json", {"name": self._name, "uid": run.uid, "config": self.config})
            self._write(scratch / "metrics.json", _metrics_document(self.history()))
            self._write(scratch / "examples.json", self.example_results())
            scratch.chmod(0o755)
            target = parent / self._name
            if target.exists():
                shutil.rmtree(target)
            scratch.rename(target)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        return target

    @staticmethod
    def _write(path: Path, content: object) -> None:
        text = json.dumps(_finite(content), indent=2, ensure_ascii=False, allow_nan=False)
        path.write_text(text + "\n", encoding="utf-8")

    def cancel(self) -> None:
        """Asks the run to stop after the batch in hand; has no effect on one that has ended."""
        self._connection.trainer.CancelRun(trainer_service_pb2.CancelRunRequest(name=self.resource))

    def delete(self) -> None:
        """Deletes the run with its history.

        Raises:
            PreconditionError: It has not ended.

        """
        self._connection.trainer.DeleteRun(trainer_service_pb2.DeleteRunRequest(name=self.resource))


def _metrics_document(history: History) -> dict[str, object]:
    """Returns the content of `metrics.json`."""
    return {
        "before": history.before,
        "after": history.after,
        "intervals": {
            name: {"low": each.low, "high": each.high, "confidence": each.confidence}
            for name, each in history.intervals.items()
        },
        "artifact_epoch": history.artifact_epoch,
        "epochs": [vars(epoch) for epoch in history.epochs],
        "decisions": [vars(decision) for decision in history.decisions],
    }


def _finite(value: object) -> object:
    """Replaces NaN and infinities, which JSON does not have, by null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(each) for key, each in value.items()}
    return [_finite(each) for each in value] if isinstance(value, list | tuple) else value
