"""What decisions remember of measured epochs: values by query, as JSON small enough for every checkpoint."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tunevane.core.quality import Measurement, sample
from tunevane.core.statistics import Floats
from tunevane.errors import InvalidRequestError

REMEMBERED = 24
"""Epochs that estimates are made from: those that must be kept, and the latest of the others."""


@dataclass(frozen=True)
class EpochValues:
    """What one epoch's evaluation gave for the monitored metric."""

    epoch: int
    """The epoch, from 1."""

    mean: float
    """The metric's value."""

    per_query: Floats
    """Value of each query [q] in single precision, so that a restored state is the same to the bit."""

    @staticmethod
    def of(epoch: int, mean: float, per_query: Floats) -> EpochValues:
        """Takes an evaluation's values."""
        return EpochValues(epoch, mean, np.asarray(per_query, np.float32).astype(np.float64))

    def to_json(self) -> dict[str, object]:
        """States the values."""
        return {"epoch": self.epoch, "mean": self.mean, "per_query": _pack(self.per_query)}

    @staticmethod
    def from_json(stated: Mapping[str, Any]) -> EpochValues:
        """Reads what `to_json` stated."""
        return EpochValues(stated["epoch"], stated["mean"], _unpack(stated["per_query"]))


@dataclass(frozen=True)
class Memory:
    """The measured epochs that estimates are made from; larger values are better, whatever the direction."""

    measured: tuple[Measurement, ...] = ()
    """In ascending order of epochs."""

    queries: int = 0
    """Number of queries; 0 before the first epoch."""

    def add(self, values: EpochValues, sign: float, keep: Collection[int]) -> Memory:
        """Remembers an epoch; of more than `REMEMBERED` the oldest that need not be kept is forgotten.

        Args:
            values: Its values.
            sign: 1 where larger is better, else -1.
            keep: Epochs that must be kept, fewer than `REMEMBERED`.

        Raises:
            InvalidRequestError: There are no queries, not as many as before, or a value is not finite.

        """
        count = len(values.per_query)
        if count == 0 or (self.measured and count != self.queries):
            before = f"{self.queries} before" if self.measured else "none to compare"
            raise InvalidRequestError(f"epoch {values.epoch} has values for {count} queries and there were {before}")
        if not np.isfinite(values.per_query).all():
            raise InvalidRequestError(f"epoch {values.epoch} has a query whose value is not finite")
        latest = Measurement(values.epoch, sign * values.mean, sign * sample(values.per_query))
        known = [*self.measured, latest]
        if len(known) > REMEMBERED:
            forgotten = next(place for place, each in enumerate(known) if each.epoch not in keep)
            del known[forgotten]
        return Memory(tuple(known), count)

    def to_json(self) -> dict[str, object]:
        """States the memory."""
        epochs = [{"epoch": each.epoch, "mean": each.mean, "sample": _pack(each.sample)} for each in self.measured]
        return {"epochs": epochs, "queries": self.queries}

    @staticmethod
    def from_json(stated: Mapping[str, Any]) -> Memory:
        """Reads what `to_json` stated."""
        epochs = [Measurement(each["epoch"], each["mean"], _unpack(each["sample"])) for each in stated["epochs"]]
        return Memory(tuple(epochs), stated["queries"])


def _pack(values: Floats) -> str:
    return base64.b64encode(zlib.compress(values.astype("<f4").tobytes(), 6)).decode("ascii")


def _unpack(packed: str) -> Floats:
    return np.frombuffer(zlib.decompress(base64.b64decode(packed)), "<f4").astype(np.float64)
