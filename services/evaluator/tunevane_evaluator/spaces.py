"""How vectors are compared: a distance, and how many of their numbers count."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tunevane.api.type.v1 import evaluation_pb2
from tunevane.core.search_settings import Distance, SearchSettings
from tunevane.errors import EvaluationFailedError
from tunevane_evaluator.index.port import Floats

_DISTANCES: dict[int, Distance] = {
    evaluation_pb2.DISTANCE_UNSPECIFIED: "cosine",
    evaluation_pb2.DISTANCE_COSINE: "cosine",
    evaluation_pb2.DISTANCE_EUCLIDEAN: "euclidean",
    evaluation_pb2.DISTANCE_SQEUCLIDEAN: "sqeuclidean",
}


@dataclass(frozen=True)
class Space:
    """Where vectors are compared."""

    distance: Distance
    """How."""

    dimensions: int | None = None
    """How many of their first numbers count; None: all."""

    @property
    def euclidean(self) -> bool:
        """Tells whether indexes compare by Euclidean distance rather than by dot product; squares order alike."""
        return self.distance in ("euclidean", "sqeuclidean")

    def prepare(self, vectors: Floats) -> Floats:
        """Returns what is put into an index, or asked for: cut, and of length 1 where angles are compared.

        Zero vectors stay zero and so are at cosine distance 1 from everything.

        Args:
            vectors: What the model gives, `[b, d]`.

        Raises:
            EvaluationFailedError: The vectors have fewer numbers than should count.

        """
        if self.dimensions is not None:
            if self.dimensions > vectors.shape[1]:
                raise EvaluationFailedError(
                    f"the plan asks for dims={self.dimensions}, but the model's embeddings have"
                    f" {vectors.shape[1]} numbers; ask for at most that many"
                )
            vectors = vectors[:, : self.dimensions]
        if self.distance != "cosine":
            return np.ascontiguousarray(vectors)
        # In float64, where the squares of tiny and huge numbers neither vanish nor overflow.
        lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
        return (vectors / np.where(lengths > 0, lengths, 1.0)).astype(np.float32)

    def shown(self, scores: Floats) -> Floats:
        """Turns an index's scores, larger for nearer vectors, into those that people see, larger for nearer too."""
        return -np.square(scores) if self.distance == "sqeuclidean" else scores


def of_plan(plan: evaluation_pb2.EvaluationPlan) -> Space:
    """Returns the space of a plan's own search."""
    return Space(_DISTANCES[plan.distance])


def of_settings(main: Space, settings: SearchSettings) -> Space:
    """Returns the space of another way to search."""
    return Space(settings.distance or main.distance, settings.dimensions)
