"""Losses for pairs, with the other pairs of the batch as negatives."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tunevane.errors import Problem
from tunevane_trainer.training.losses.info import Loss, LossInfo, Space


@dataclass(frozen=True)
class RankingOptions:
    """Options of losses that rank the batch by cosine similarity."""

    temperature: float = 0.05
    """Cosine similarities are divided by this."""

    def problems(self) -> Iterator[Problem]:
        """Yields what is wrong with the options."""
        if not self.temperature > 0:
            yield Problem("temperature", f"must be positive, not {self.temperature}")


@dataclass(frozen=True)
class ClipOptions(RankingOptions):
    """Options of `clip`."""

    temperature: float = 0.07
    """Cosine similarities are divided by this at first."""

    learn_temperature: bool = True
    """Whether the temperature is learned; it stays above 0.01."""


def _ranking(options: RankingOptions, space: Space) -> Loss:
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    from tunevane_trainer.training.losses.wrapped import OfColumns

    return OfColumns(MultipleNegativesRankingLoss, scale=1 / options.temperature)


def _symmetric(options: RankingOptions, space: Space) -> Loss:
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    from tunevane_trainer.training.losses.wrapped import OfColumns

    return OfColumns(
        MultipleNegativesRankingLoss,
        scale=1 / options.temperature,
        directions=("query_to_doc", "doc_to_query"),
        partition_mode="per_direction",
    )


def _clip(options: ClipOptions, space: Space) -> Loss:
    from tunevane_trainer.training.losses.clip import ClipLoss

    return ClipLoss(options.temperature, learn_temperature=options.learn_temperature)


MULTIPLE_NEGATIVES_RANKING = LossInfo(
    "multiple-negatives-ranking",
    "Each pair's second content against those of all other pairs in the batch (InfoNCE).",
    ("pairs",),
    RankingOptions,
    _ranking,
)

MULTIPLE_NEGATIVES_SYMMETRIC = LossInfo(
    "multiple-negatives-symmetric-ranking",
    "Multiple negatives ranking in both directions, averaged, at a fixed temperature.",
    ("pairs",),
    RankingOptions,
    _symmetric,
)

CLIP = LossInfo(
    "clip",
    "The loss of CLIP: cross entropy in both directions, averaged, at a temperature that is learned.",
    ("pairs",),
    ClipOptions,
    _clip,
)
