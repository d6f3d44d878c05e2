"""One run that is being mirrored: its process, and what is known of its place at W&B."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tunevane.api.type.v1.event_pb2 import Event
from tunevane_tracker.sinks.port import SinkUnavailableError
from tunevane_tracker.sinks.process import ChildProcess
from tunevane_tracker.sinks.wandb.graphql import AwayError, stored
from tunevane_tracker.sinks.wandb.ladder import Account
from tunevane_tracker.sinks.wandb.rows import Command, Rows

ANSWER_SECONDS = 90.0
"""A process that needs longer for some events is killed."""


@dataclass
class Session:
    """A run in the hands of its process, from the first event on."""

    uid: str
    """The run's id, here and at W&B."""

    process: ChildProcess
    """What runs wandb."""

    account: Account
    """How W&B is used for it."""

    rows: Rows
    """Maps its events; has seen them from the first."""

    entity: str
    """Whose it is at W&B."""

    project: str
    """Where it is at W&B."""

    position: int = 0
    """Number of the last event that was handed over."""

    rows_sent: int = 0
    """Rows handed over, those that the server had already included."""

    last_step: int = 0
    """Step of the last of them."""

    end: Command | None = None
    """How the run ended, unless it went on."""

    used_seconds: float = 0.0
    """When it last got something, on the clock of the sink."""

    checked_seconds: float = 0.0
    """When the server was last asked what it has, on the clock of the sink."""

    rows_at_check: int = 0
    """Rows that had been handed over then."""

    @property
    def offline(self) -> bool:
        """Tells whether it only writes files."""
        return self.account.kind == "offline"

    def send(self, events: Sequence[Event], finish_seconds: float | None) -> bool:
        """Hands events to the process and tells whether it finished the run.

        Args:
            events: The next ones.
            finish_seconds: How long the end of the run may take; None leaves the run open even if it ends,
                because it goes on afterwards.

        Raises:
            ChildDiedError: The process is dead.

        """
        sent: list[Command] = []
        for event in events:
            for command in self.rows.commands(event):
                # What follows an end says that it was none.
                self.end = command if command.op == "finish" else None
                if command.op != "finish":
                    sent.append(command)
        finishes = self.end is not None and finish_seconds is not None
        timeout_seconds = ANSWER_SECONDS
        if self.end is not None and finish_seconds is not None:
            sent.append(self.end)
            timeout_seconds += finish_seconds
        if sent:
            self.process.ask({"op": "commands", "commands": [command.as_json() for command in sent]}, timeout_seconds)
        rows = [command.sequence for command in sent if command.op == "row"]
        self.rows_sent += len(rows)
        self.last_step = max([self.last_step, *rows])
        return finishes

    def check(self, expected_rows: int, last_step: int | None) -> None:
        """Makes sure that the server has rows: that wandb took them says nothing about it.

        Args:
            expected_rows: So many at least.
            last_step: Step of the last of them; None when there may be later ones already.

        Raises:
            SinkUnavailableError: It has not, or does not tell.
            RefusedError: It no longer takes the key.

        """
        account = self.account
        try:
            found = stored(account.base_url, account.key, self.entity, self.project, self.uid)
        except AwayError as error:
            raise SinkUnavailableError(f"it is not known whether W&B has all rows: it {error}") from error
        if found is None:
            raise SinkUnavailableError("W&B does not tell whether it has all rows")
        if found.rows < expected_rows:
            raise SinkUnavailableError(f"W&B has {found.rows} of {expected_rows} rows; the rest is sent again")
        if last_step is not None and found.last_step is not None and found.last_step < last_step:
            raise SinkUnavailableError(f"W&B has rows up to {found.last_step} of {last_step}; the rest is sent again")
