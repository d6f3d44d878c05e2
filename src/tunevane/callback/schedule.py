"""The moments of a run: who is asked when, in an order that the callback list cannot change.

measure -> decide -> record at each epoch end; select -> refine -> measure "after" at the end.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from tunevane.callback import compatibility
from tunevane.callback.base import (
    Callback,
    Decides,
    Decision,
    Measurements,
    Measures,
    Notice,
    Refines,
    State,
)
from tunevane.callback.best_model import BestModelCheckpoint
from tunevane.core.monitor import resolve
from tunevane.errors import InvalidRequestError

States = Mapping[str, State]
"""What every decider remembers, by callback key."""


class Schedule:
    """The callbacks of one run, sorted by key."""

    def __init__(self, callbacks: Iterable[Callback], model_name: str, *, with_val_loss: bool) -> None:
        """Checks the callbacks against each other.

        Args:
            callbacks: In any order.
            model_name: What metric names begin with.
            with_val_loss: Whether the run measures a validation loss.

        Raises:
            InvalidRequestError: Lists every problem, by position in the list as it was given.

        """
        given = list(callbacks)
        self._model_name = model_name
        self._callbacks: Sequence[Callback] = sorted(given, key=lambda callback: callback.key)
        self.losses = compatibility.losses(with_val_loss=with_val_loss)
        found = list(compatibility.problems(given, model_name, self.losses))
        if found:
            raise InvalidRequestError(found)
        measured = self.measured
        self._metric_of = {callback.key: resolve(callback.monitor, measured) for callback in self.deciders}

    @property
    def measured(self) -> list[str]:
        """Lists the full names of everything that the run measures at an epoch end."""
        return compatibility.measured(self._callbacks, self._model_name, self.losses)

    @property
    def measurers(self) -> list[Measures]:
        """Lists the callbacks that give metrics, by key."""
        return [callback for callback in self._callbacks if isinstance(callback, Measures)]

    @property
    def deciders(self) -> list[Decides]:
        """Lists the callbacks that decide, by key."""
        return [callback for callback in self._callbacks if isinstance(callback, Decides)]

    @property
    def refiner(self) -> Refines | None:
        """Returns the callback that changes the selected weights, if there is one."""
        return next((callback for callback in self._callbacks if isinstance(callback, Refines)), None)

    def find(self, kind: type[Callback]) -> Callback | None:
        """Returns the callback of a class, if there is one."""
        return next((callback for callback in self._callbacks if isinstance(callback, kind)), None)

    def initial(self) -> dict[str, State]:
        """Returns what every decider remembers before the first epoch."""
        return {callback.key: callback.initial() for callback in self.deciders}

    @property
    def monitored(self) -> list[str]:
        """Lists the full names of the retrieval metrics that decisions depend on, each once, by callback key."""
        names = [self._metric_of[callback.key] for callback in self.deciders]
        return [name for name in dict.fromkeys(names) if name not in self.losses]

    def decide(
        self, states: States, epoch: int, measured: Mapping[str, float]
    ) -> tuple[dict[str, State], list[Decision]]:
        """Shows the same finished map to every decider, by key.

        Args:
            states: What every decider remembers.
            epoch: Epoch that ended, from 1.
            measured: All metrics of the epoch by full name; `Measurements` where values by query are needed.

        """
        finished = measured if isinstance(measured, Measurements) else Measurements(measured)
        after: dict[str, State] = {}
        decisions: list[Decision] = []
        for callback in self.deciders:
            state, decision = callback.decide(states[callback.key], epoch, finished, self._metric_of[callback.key])
            after[callback.key] = state
            decisions.append(decision)
        return after, decisions

    def best_epoch(self, states: States) -> int | None:
        """Returns the epoch to select; 0 when none has qualified, None when nobody selects."""
        for callback in self.deciders:
            if isinstance(callback, BestModelCheckpoint):
                return callback.best_epoch(states[callback.key])
        return None

    def kept_epochs(self, states: States) -> frozenset[int]:
        """Returns the epochs that may be selected at the end, so their weights must be kept."""
        for callback in self.deciders:
            if isinstance(callback, BestModelCheckpoint):
                return callback.kept_epochs(states[callback.key])
        return frozenset()

    def notify(self, notice: Notice) -> None:
        """Tells every callback of a moment, by key."""
        for callback in self._callbacks:
            callback.notify(notice)
