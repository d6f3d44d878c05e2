"""What a callback is: configuration that measures, decides, refines or listens.

A callback is a frozen dataclass; its fields are its options. What it can do is told by the protocols
that it satisfies, and the schedule asks for each at the right moment, whatever the order of the list:

- `Measures`: gives metrics of the weights at hand;
- `Decides`: draws a conclusion from the finished map of metrics;
- `Refines`: changes the selected weights once, at the end.

Everything that a decider remembers is a JSON object that the schedule keeps and checkpoints carry.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal, Protocol, runtime_checkable

from tunevane.core.decisions import Verdict
from tunevane.core.evidence import Evidence
from tunevane.core.statistics import Floats
from tunevane.errors import Problem

State = Mapping[str, object]
"""What a callback remembers between epochs: a JSON object."""

Notice = Literal[
    "on_fit_begin",
    "on_epoch_begin",
    "on_train_epoch_begin",
    "on_train_batch_begin",
    "on_train_batch_end",
    "on_train_epoch_end",
    "on_val_begin",
    "on_val_batch_begin",
    "on_val_batch_end",
    "on_val_end",
    "on_epoch_end",
    "on_fit_end",
    "on_exception",
]


@dataclass(frozen=True)
class Measurements(Mapping[str, float]):
    """Everything measured at an epoch end, finished: every decider sees the same."""

    metrics: Mapping[str, float]
    """Metrics and losses by full name."""

    per_query: Mapping[str, Floats] = field(default_factory=dict)
    """Value of each query [q] of the metrics that have such, by full name."""

    def __getitem__(self, name: str) -> float:
        """Returns a metric by full name."""
        return self.metrics[name]

    def __iter__(self) -> Iterator[str]:
        """Goes over the names."""
        return iter(self.metrics)

    def __len__(self) -> int:
        """Counts the metrics."""
        return len(self.metrics)


@dataclass(frozen=True)
class Decision:
    """A conclusion, ready to become an event."""

    callback: str
    """Key of the callback that drew it."""

    verdict: Verdict
    """What was concluded."""

    reason: str
    """The sentence a person reads; empty when there is nothing to say."""

    monitor: str
    """Full name of the metric that was looked at."""

    value: float | None = None
    """Its value; None when nothing measured it."""

    patience_left: int | None = None
    """Epochs that may still pass without improvement; None for callbacks that do not stop training."""

    evidence: Evidence | None = None
    """How the epoch stands against the one to beat, query by query; None without a `confidence`."""

    estimate: float | None = None
    """The epoch's true value as estimated from all epochs so far; None without a `confidence`."""

    best_epoch: int | None = None
    """The epoch whose weights are the best so far; None for callbacks that do not select, or before there is one."""

    slot: int | None = None
    """Where the epoch's weights are kept, in place of those before; None where `verdict` alone says what is kept."""


@dataclass(frozen=True)
class Callback:
    """Root of all callbacks; by itself it only listens."""

    name: ClassVar[str] = ""
    """Registered name, kebab-case."""

    attachments: ClassVar[tuple[str, ...]] = ()
    """Options that are data sets; they travel as files."""

    @property
    def key(self) -> str:
        """Names this callback within a run; two callbacks with one key are refused."""
        return self.name

    def problems(self) -> Iterator[Problem]:
        """Yields what is wrong with the options, each naming its field."""
        yield from ()

    def notify(self, notice: Notice) -> None:
        """Hears of a moment in training; does nothing by default."""


@runtime_checkable
class Measures(Protocol):
    """Gives metrics."""

    @property
    def key(self) -> str:
        """Names this callback within a run."""

    def measured(self, model_name: str) -> list[str]:
        """Lists the full names of the metrics that it will give."""


@runtime_checkable
class MeasuresModel(Measures, Protocol):
    """Gives metrics by looking at the model itself, in the process that trains it."""

    def measure(self, model: object) -> Mapping[str, float]:
        """Measures the model, a `SentenceTransformer` in evaluation mode, before training, at epoch ends, and after.

        Returns:
            Finite values, under exactly the names that `measured` announces.

        """


@runtime_checkable
class Decides(Protocol):
    """Draws a conclusion at each epoch end."""

    monitor: str

    @property
    def key(self) -> str:
        """Names this callback within a run."""

    def initial(self) -> State:
        """Returns what is remembered before the first epoch."""

    def decide(self, state: State, epoch: int, measured: Measurements, metric: str) -> tuple[State, Decision]:
        """Takes the finished metrics of an epoch.

        Args:
            state: What was remembered.
            epoch: Epoch that ended, from 1.
            measured: All metrics of the epoch, losses included.
            metric: Full name that the monitor stands for in this run.

        """


@runtime_checkable
class KnowsNoise(Protocol):
    """Decides from values by query where it has a confidence, so its monitor must be a retrieval metric then."""

    confidence: float | None
    """Level, in (0, 1); None decides from the means alone."""


@runtime_checkable
class Refines(Protocol):
    """Changes the selected weights once, at the end."""

    @property
    def key(self) -> str:
        """Names this callback within a run."""

    alpha: float | Literal["sweep"]
    """Share of the fine-tuned weights in the mix, in [0, 1]; or the best of many, by the run's evaluation."""
