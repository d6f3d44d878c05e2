"""Miners of pytorch-metric-learning: which pairs or triplets of a batch a loss looks at."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tunevane.core import specs
from tunevane.errors import Problem

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Angular:
    """Triplets whose angle at the negative is larger."""

    angle: float = 20.0
    """In degrees."""


@dataclass(frozen=True)
class BatchEasyHard:
    """For each anchor one positive and one negative, by strategy."""

    pos_strategy: Literal["easy", "semihard", "hard", "all"] = "easy"
    """Which positive."""

    neg_strategy: Literal["easy", "semihard", "hard", "all"] = "semihard"
    """Which negative."""


@dataclass(frozen=True)
class BatchHard:
    """For each anchor its farthest positive and its nearest negative."""


@dataclass(frozen=True)
class DistanceWeighted:
    """Negatives drawn evenly over all distances."""

    cutoff: float = 0.5
    """Shorter distances count as this."""

    nonzero_loss_cutoff: float = 1.4
    """Negatives farther away are never drawn."""


@dataclass(frozen=True)
class MultiSimilarity:
    """Pairs that are harder than the easiest of the other kind."""

    epsilon: float = 0.1
    """By this much in similarity."""


@dataclass(frozen=True)
class PairMargin:
    """Positives that are too far apart, and negatives that are too near."""

    pos_margin: float = 0.2
    """Positives farther apart than this."""

    neg_margin: float = 0.8
    """Negatives nearer than this."""


@dataclass(frozen=True)
class TripletMargin:
    """Triplets that break a margin."""

    margin: float = 0.2
    """How much nearer the positive has to be."""

    type_of_triplets: Literal["all", "hard", "semihard", "easy"] = "all"
    """Which of them."""


MINERS: dict[str, type] = {
    "AngularMiner": Angular,
    "BatchEasyHardMiner": BatchEasyHard,
    "BatchHardMiner": BatchHard,
    "DistanceWeightedMiner": DistanceWeighted,
    "MultiSimilarityMiner": MultiSimilarity,
    "PairMarginMiner": PairMargin,
    "TripletMarginMiner": TripletMargin,
}
"""Options by name; the names are those of the classes."""


def problems(name: str | None, options: Mapping[str, object]) -> Iterator[Problem]:
    """Yields what is wrong with a miner and its options."""
    if name is None:
        if options:
            yield Problem("miner", "is needed where miner_options are given")
    elif name not in MINERS:
        yield Problem("miner", specs.unknown("miner", name, MINERS))
    else:
        yield from specs.attempt(MINERS[name], options, "miner_options")[1]


def build(name: str | None, options: Mapping[str, object]) -> torch.nn.Module | None:
    """Makes a miner; None for none."""
    if name is None:
        return None
    from pytorch_metric_learning import miners

    made: object = specs.build(MINERS[name], options, "miner_options")
    miner: torch.nn.Module = getattr(miners, name)(**dataclasses.asdict(made))  # type: ignore[call-overload]  # a dataclass
    return miner
