"""Losses for pairs with scores."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tunevane.errors import Problem
from tunevane_trainer.training.losses.info import Loss, LossInfo, Space


@dataclass(frozen=True)
class ScaleOptions:
    """Options of losses about the order of scores."""

    scale: float = 20.0
    """Similarities are multiplied by this."""

    def problems(self) -> Iterator[Problem]:
        """Yields what is wrong with the options."""
        if not self.scale > 0:
            yield Problem("scale", f"must be positive, not {self.scale}")


@dataclass(frozen=True)
class CosineOptions:
    """Options of `cosine-similarity`, which has none."""


@dataclass(frozen=True)
class MarginOptions:
    """Options of losses that tell alike from not alike."""

    margin: float = 0.5
    """Pairs that are not alike should be at least so far apart, in cosine distance."""

    def problems(self) -> Iterator[Problem]:
        """Yields what is wrong with the options."""
        if not self.margin > 0:
            yield Problem("margin", f"must be positive, not {self.margin}")


def _cosent(options: ScaleOptions, space: Space) -> Loss:
    from sentence_transformers.sentence_transformer.losses import CoSENTLoss

    from tunevane_trainer.training.losses.wrapped import OfColumns

    return OfColumns(CoSENTLoss, scale=options.scale)


def _angle(options: ScaleOptions, space: Space) -> Loss:
    from sentence_transformers.sentence_transformer.losses import AnglELoss

    from tunevane_trainer.training.losses.wrapped import OfColumns

    return OfColumns(AnglELoss, scale=options.scale)


def _cosine(options: CosineOptions, space: Space) -> Loss:
    from sentence_transformers.sentence_transformer.losses import CosineSimilarityLoss

    from tunevane_trainer.training.losses.wrapped import OfColumns

    return OfColumns(CosineSimilarityLoss)


def _contrastive(options: MarginOptions, space: Space) -> Loss:
    from sentence_transformers.sentence_transformer.losses import ContrastiveLoss

    from tunevane_trainer.training.losses.wrapped import OfColumns

    return OfColumns(ContrastiveLoss, margin=options.margin)


def _online(options: MarginOptions, space: Space) -> Loss:
    from sentence_transformers.sentence_transformer.losses import OnlineContrastiveLoss

    from tunevane_trainer.training.losses.wrapped import OfColumns

    return OfColumns(OnlineContrastiveLoss, margin=options.margin)


COSENT = LossInfo(
    "cosent",
    "Pairs with scores: the order of their similarities should be that of the scores.",
    ("scored",),
    ScaleOptions,
    _cosent,
)

ANGLE = LossInfo(
    "angle",
    "Pairs with scores: as cosent, by angles in complex space, whose gradients do not vanish (AnglE).",
    ("scored",),
    ScaleOptions,
    _angle,
)

COSINE_SIMILARITY = LossInfo(
    "cosine-similarity",
    "Pairs with scores in [-1, 1]: their cosine similarity should be the score.",
    ("scored",),
    CosineOptions,
    _cosine,
)

SCORED_CONTRASTIVE = LossInfo(
    "scored-contrastive",
    "Pairs with score 1 (alike) or 0 (not alike): drawn together, or pushed apart up to a margin.",
    ("scored",),
    MarginOptions,
    _contrastive,
)

ONLINE_CONTRASTIVE = LossInfo(
    "online-contrastive",
    "As scored-contrastive, on the hard pairs of the batch alone.",
    ("scored",),
    MarginOptions,
    _online,
)
