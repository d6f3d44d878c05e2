"""Losses for contents with labels: triplets of sentence-transformers, and those of pytorch-metric-learning."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tunevane.errors import Problem
from tunevane_trainer.training.losses import miners
from tunevane_trainer.training.losses.info import Loss, LossInfo, Space


@dataclass(frozen=True)
class TripletOptions:
    """Options of triplets by margin."""

    margin: float = 0.2
    """How much nearer the positive has to be, in cosine distance."""


@dataclass(frozen=True)
class SoftMarginOptions:
    """Options of `batch-hard-soft-margin-triplet`, which has none."""


@dataclass(frozen=True)
class Mined:
    """Options that every loss of pytorch-metric-learning has."""

    miner: str | None = None
    """Which pairs or triplets of a batch count, by the name of a miner like `TripletMarginMiner`; None for all."""

    miner_options: Mapping[str, object] = field(default_factory=dict)
    """Options of the miner, for example `{type_of_triplets: semihard}`."""

    def problems(self) -> Iterator[Problem]:
        """Yields what is wrong with the options."""
        yield from miners.problems(self.miner, self.miner_options)
        for name in ("temperature", "scale", "gamma", "softmax_scale"):
            value = getattr(self, name, 1.0)
            if not value > 0:
                yield Problem(name, f"must be positive, not {value}")


@dataclass(frozen=True)
class TripletMarginOptions(Mined):
    """Options of `triplet-margin`."""

    margin: float = 0.05
    """How much nearer the positive has to be, as distance of vectors of length 1."""

    swap: bool = False
    """Whether the distance of positive and negative counts where it is shorter than that of anchor and negative."""

    smooth_loss: bool = False
    """Whether the log of a sum of exponentials takes the place of the margin."""


@dataclass(frozen=True)
class ContrastiveOptions(Mined):
    """Options of `contrastive`."""

    pos_margin: float = 0.0
    """Contents with one label are drawn together until they are so near."""

    neg_margin: float = 1.0
    """Contents with different labels are pushed apart until they are so far apart."""


@dataclass(frozen=True)
class MultiSimilarityOptions(Mined):
    """Options of `multi-similarity`."""

    alpha: float = 2.0
    """Weight of pairs with one label."""

    beta: float = 50.0
    """Weight of pairs with different labels."""

    base: float = 0.5
    """Similarity that counts as neither."""


@dataclass(frozen=True)
class TemperatureOptions(Mined):
    """Options of losses with a temperature."""

    temperature: float = 0.07
    """Cosine similarities are divided by this."""


@dataclass(frozen=True)
class SupConOptions(Mined):
    """Options of `sup-con`."""

    temperature: float = 0.1
    """Cosine similarities are divided by this."""


@dataclass(frozen=True)
class CircleOptions(Mined):
    """Options of `circle`."""

    m: float = 0.4
    """Relaxation of the decision boundary."""

    gamma: float = 80.0
    """Scale of similarities."""


@dataclass(frozen=True)
class AngularOptions(Mined):
    """Options of `angular`."""

    alpha: float = 40.0
    """Angle in degrees."""


@dataclass(frozen=True)
class NcaOptions(Mined):
    """Options of `nca`."""

    softmax_scale: float = 1.0
    """Distances are multiplied by this."""


@dataclass(frozen=True)
class ArcFaceOptions(Mined):
    """Options of `arc-face`."""

    margin: float = 28.6
    """Additional angle to the own label's centre, in degrees."""

    scale: float = 64.0
    """Cosine similarities are multiplied by this."""


@dataclass(frozen=True)
class CosFaceOptions(Mined):
    """Options of `cos-face`."""

    margin: float = 0.35
    """Subtracted from the similarity to the own label's centre."""

    scale: float = 64.0
    """Cosine similarities are multiplied by this."""


@dataclass(frozen=True)
class ProxyAnchorOptions(Mined):
    """Options of `proxy-anchor`."""

    margin: float = 0.1
    """Similarities to proxies beyond this no longer count."""

    alpha: float = 32.0
    """Scale of similarities."""


@dataclass(frozen=True)
class ProxyNcaOptions(Mined):
    """Options of `proxy-nca`."""

    softmax_scale: float = 1.0
    """Distances are multiplied by this."""


@dataclass(frozen=True)
class NormalizedSoftmaxOptions(Mined):
    """Options of `normalized-softmax`."""

    temperature: float = 0.05
    """Cosine similarities are divided by this."""


def _triplets(name: str) -> Callable[[Any, Space], Loss]:
    """Builds a loss of sentence-transformers by cosine distance."""

    def build(options: Any, space: Space) -> Loss:
        from sentence_transformers.sentence_transformer import losses

        from tunevane_trainer.training.losses.wrapped import OfColumns

        cosine = losses.BatchHardTripletLossDistanceFunction.cosine_distance
        return OfColumns(getattr(losses, name), distance_metric=cosine, **dataclasses.asdict(options))

    return build


def _metric_learning(name: str, *, proxies: bool = False) -> Callable[[Any, Space], Loss]:
    """Builds a loss of pytorch-metric-learning; its options have the names of the class's arguments."""

    def build(options: Any, space: Space) -> Loss:
        from pytorch_metric_learning import losses

        from tunevane_trainer.training.losses.wrapped import OfLabels

        own = {each.name: getattr(options, each.name) for each in dataclasses.fields(options)}
        miner = miners.build(own.pop("miner"), own.pop("miner_options"))
        if proxies:
            own |= {"num_classes": space.classes, "embedding_size": space.dim}
        return OfLabels(getattr(losses, name)(**own), miner)

    return build


def _info(
    name: str, summary: str, options: type, build: Callable[[Any, Space], Loss], *, learns_labels: bool = False
) -> LossInfo:
    return LossInfo(name, summary, ("items",), options, build, learns_labels)


BATCH_ALL_TRIPLET = _info(
    "batch-all-triplet",
    "All triplets of a batch with labels, by margin.",
    TripletOptions,
    _triplets("BatchAllTripletLoss"),
)

BATCH_HARD_TRIPLET = _info(
    "batch-hard-triplet",
    "For each content the hardest triplet of the batch, by margin.",
    TripletOptions,
    _triplets("BatchHardTripletLoss"),
)

BATCH_HARD_SOFT_MARGIN_TRIPLET = _info(
    "batch-hard-soft-margin-triplet",
    "For each content the hardest triplet of the batch, without a margin.",
    SoftMarginOptions,
    _triplets("BatchHardSoftMarginTripletLoss"),
)

BATCH_SEMI_HARD_TRIPLET = _info(
    "batch-semi-hard-triplet",
    "Triplets of the batch whose negative is farther away than the positive, by less than the margin.",
    TripletOptions,
    _triplets("BatchSemiHardTripletLoss"),
)

TRIPLET_MARGIN = _info(
    "triplet-margin",
    "Triplets by margin: contents with one label nearer than those with another.",
    TripletMarginOptions,
    _metric_learning("TripletMarginLoss"),
)

CONTRASTIVE = _info(
    "contrastive",
    "Contents with one label are drawn together, others pushed apart up to a margin.",
    ContrastiveOptions,
    _metric_learning("ContrastiveLoss"),
)

MULTI_SIMILARITY = _info(
    "multi-similarity",
    "All pairs of a batch, weighted by how hard they are.",
    MultiSimilarityOptions,
    _metric_learning("MultiSimilarityLoss"),
)

NT_XENT = _info(
    "nt-xent",
    "Cross entropy over similarities of the batch, for each positive (SimCLR's loss, with labels).",
    TemperatureOptions,
    _metric_learning("NTXentLoss"),
)

SUP_CON = _info(
    "sup-con",
    "Supervised contrastive learning: cross entropy over the batch, positives averaged.",
    SupConOptions,
    _metric_learning("SupConLoss"),
)

CIRCLE = _info(
    "circle", "Pairs weighted by their distance from the optimum.", CircleOptions, _metric_learning("CircleLoss")
)

ANGULAR = _info("angular", "Triplets by angle instead of margin.", AngularOptions, _metric_learning("AngularLoss"))

NCA = _info(
    "nca",
    "Neighbourhood components: nearest neighbours should share the label.",
    NcaOptions,
    _metric_learning("NCALoss"),
)

ARC_FACE = _info(
    "arc-face",
    "Classification by learned centres, with a margin in angle; for few labels with many contents.",
    ArcFaceOptions,
    _metric_learning("ArcFaceLoss", proxies=True),
    learns_labels=True,
)

COS_FACE = _info(
    "cos-face",
    "Classification by learned centres, with a margin in cosine.",
    CosFaceOptions,
    _metric_learning("CosFaceLoss", proxies=True),
    learns_labels=True,
)

PROXY_ANCHOR = _info(
    "proxy-anchor",
    "Learned proxies of labels as anchors against the batch.",
    ProxyAnchorOptions,
    _metric_learning("ProxyAnchorLoss", proxies=True),
    learns_labels=True,
)

PROXY_NCA = _info(
    "proxy-nca",
    "Neighbourhood components against learned proxies of labels.",
    ProxyNcaOptions,
    _metric_learning("ProxyNCALoss", proxies=True),
    learns_labels=True,
)

NORMALIZED_SOFTMAX = _info(
    "normalized-softmax",
    "Classification by learned centres of length 1, at a temperature.",
    NormalizedSoftmaxOptions,
    _metric_learning("NormalizedSoftmaxLoss", proxies=True),
    learns_labels=True,
)
