"""Losses that runs can name, from sentence-transformers. Torch is imported when one is built."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tunevane.core.dataset import Kind

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


@dataclass(frozen=True)
class LossInfo:
    """A registered loss."""

    name: str
    """Registered name."""

    summary: str
    """One sentence."""

    kinds: tuple[Kind, ...]
    """Kinds of data sets that it can learn from."""

    options: type
    """Dataclass of its options."""

    build: Callable[[Any, SentenceTransformer], Any]
    """Makes the loss of its options and the model; Any: sentence-transformers has no common type of losses."""


@dataclass(frozen=True)
class RankingOptions:
    """Options of `multiple-negatives-ranking`."""

    temperature: float = 0.05
    """Cosine similarities are divided by this."""


@dataclass(frozen=True)
class TripletOptions:
    """Options of `batch-all-triplet`."""

    margin: float = 0.2
    """How much nearer the positive has to be, in cosine distance."""


@dataclass(frozen=True)
class CoSentOptions:
    """Options of `cosent`."""

    scale: float = 20.0
    """Cosine similarities are multiplied by this."""


def _ranking(options: RankingOptions, model: SentenceTransformer) -> Any:
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    return MultipleNegativesRankingLoss(model, scale=1 / options.temperature)


def _triplet(options: TripletOptions, model: SentenceTransformer) -> Any:
    from sentence_transformers.sentence_transformer.losses import (
        BatchAllTripletLoss,
        BatchHardTripletLossDistanceFunction,
    )

    cosine = BatchHardTripletLossDistanceFunction.cosine_distance
    return BatchAllTripletLoss(model, distance_metric=cosine, margin=options.margin)


def _cosent(options: CoSentOptions, model: SentenceTransformer) -> Any:
    from sentence_transformers.sentence_transformer.losses import CoSENTLoss

    return CoSENTLoss(model, scale=options.scale)


MULTIPLE_NEGATIVES_RANKING = LossInfo(
    "multiple-negatives-ranking",
    "Each pair's second text against those of all other pairs in the batch (InfoNCE).",
    ("pairs",),
    RankingOptions,
    _ranking,
)

BATCH_ALL_TRIPLET = LossInfo(
    "batch-all-triplet",
    "All triplets of a batch with labels, by margin.",
    ("items",),
    TripletOptions,
    _triplet,
)

COSENT = LossInfo(
    "cosent",
    "Pairs with scores: the order of their similarities should be that of the scores.",
    ("scored",),
    CoSentOptions,
    _cosent,
)

DEFAULT_FOR: dict[Kind, str] = {
    "pairs": MULTIPLE_NEGATIVES_RANKING.name,
    "items": BATCH_ALL_TRIPLET.name,
    "scored": COSENT.name,
}
