"""Exact search in memory: a matrix product picks candidates, and float64 puts them in order."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from tunevane.core.search_settings import SearchSettings
from tunevane.errors import UnavailableError
from tunevane_evaluator.index.order import Hits, whole_ties
from tunevane_evaluator.index.port import EXACT, Floats, Ids, Positions

BLOCK = 64
"""Documents whose best score is looked at before each of them is: one pass over the scores instead of a selection."""

SCORES_AT_ONCE = 16_000_000
"""Scores held at once: bounds memory."""

NUMBERS_AT_ONCE = 1_000_000
"""Numbers in float64 held at once."""

SPARE = 8
"""Candidates beyond those wanted: float32 may order close ones wrongly."""


class TorchIndex:
    """Keeps all vectors in memory, on the CPU or a GPU, and compares every pair."""

    def __init__(self, *, euclidean: bool = False, device: torch.device | str = "cpu") -> None:
        """Makes an empty index; scores are dot products, or negated Euclidean distances."""
        self._euclidean = euclidean
        self._device = torch.device(device)
        self._blocks: list[tuple[Positions, Floats]] = []
        self._ids: npt.NDArray[np.int64] = np.zeros(0, np.int64)
        self._vectors = torch.zeros((0, 0))
        self._offsets: torch.Tensor | None = None
        self._epsilon = self._longest = 0.0

    def create(self, dimensions: int) -> None:
        """Makes the collection."""
        self._vectors = torch.zeros((0, dimensions), device=self._device)

    def add(self, ids: Positions, vectors: Floats) -> None:
        """Hands over vectors with their positions."""
        self._blocks.append((ids, vectors))

    def seal(self, count: int) -> None:
        """Puts the blocks together."""
        held = sum(len(ids) for ids, _ in self._blocks)
        if held != count:
            raise UnavailableError(f"the index holds {held} vectors instead of {count}")
        self._ids = np.concatenate([self._ids, *(ids for ids, _ in self._blocks)])
        # Whole blocks: rows of zeros fill the last one, and never win, see `_rough`.
        rows = -(-count // BLOCK) * BLOCK
        self._vectors = torch.zeros((rows, self._vectors.shape[1]), device=self._device)
        place = 0
        for ids, vectors in self._blocks:
            self._vectors[place : place + len(ids)] = torch.from_numpy(np.ascontiguousarray(vectors))
            place += len(ids)
        self._blocks.clear()
        squares = self._vectors.square().sum(1)
        self._offsets = -0.5 * squares if self._euclidean else None
        # Sums of d products in float32 are off by less, whatever their order.
        self._epsilon = self._vectors.shape[1] * float(np.finfo(np.float32).eps)
        self._longest = float(squares.max().sqrt()) if rows else 0.0

    def search(self, queries: Floats, limit: int, settings: SearchSettings = EXACT) -> tuple[Ids, Floats]:
        """Finds the nearest vectors of each query."""
        asked = torch.from_numpy(np.ascontiguousarray(queries)).to(self._device)

        def fetch(numbers: Positions, ask: int) -> Hits:
            size = max(min(SCORES_AT_ONCE // max(len(self._vectors), 1), SCORES_AT_ONCE // (ask * BLOCK)), 1)
            parts = [self._best(asked[torch.from_numpy(part)], ask) for part in _split(numbers, size)]
            return np.concatenate([ids for ids, _ in parts]), np.concatenate([scores for _, scores in parts])

        return whole_ties(fetch, len(queries), limit, len(self._ids))

    def _best(self, queries: torch.Tensor, limit: int) -> Hits:
        """Returns the best `limit`, more candidates at a time until no other can be among them."""
        candidates = min(limit + SPARE, len(self._ids))
        rough, rows = self._rough(queries, candidates)
        exact = self._exact(queries, rows)
        order = torch.argsort(exact, dim=1, descending=True, stable=True)[:, :limit]
        if candidates < len(self._ids):
            # What was left out scores at most as much as the last candidate did, but for rounding.
            lengths = queries.double().norm(dim=1, keepdim=True) + (self._longest if self._euclidean else 0.0)
            most = rough[:, -1:].double() + 2 * self._epsilon * self._longest * lengths
            if bool((most > self._as_rough(torch.gather(exact, 1, order[:, -1:]), queries)).any()):
                ids, scores = self._best(queries, min(2 * limit, len(self._ids)))
                return ids[:, :limit], scores[:, :limit]
        return (
            self._ids[torch.gather(rows, 1, order).cpu().numpy()],
            torch.gather(exact, 1, order).float().cpu().numpy(),
        )

    def _rough(self, queries: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the best scores in float32, and the rows they belong to: the best are in the best blocks."""
        scores = queries @ self._vectors.T
        if self._offsets is not None:
            scores += self._offsets
        scores[:, len(self._ids) :] = -torch.inf
        blocks = scores.view(len(queries), -1, BLOCK)
        chosen = blocks.amax(dim=2).topk(min(count, blocks.shape[1]), dim=1, sorted=False).indices
        inside = torch.gather(blocks, 1, chosen[:, :, None].expand(-1, -1, BLOCK)).flatten(1)
        best = inside.topk(count, dim=1)
        return best.values, torch.gather(chosen, 1, best.indices // BLOCK) * BLOCK + best.indices % BLOCK

    def _exact(self, queries: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Compares in float64, so that the squares of close vectors can be subtracted, and equal ones score equal."""
        size = max(NUMBERS_AT_ONCE // (rows.shape[1] * queries.shape[1]), 1)
        parts = []
        for start in range(0, len(queries), size):
            query = queries[start : start + size, None].double()
            vectors = self._vectors[rows[start : start + size]].double()
            parts.append(-(vectors - query).norm(dim=2) if self._euclidean else (vectors * query).sum(2))
        return torch.cat(parts)

    def _as_rough(self, exact: torch.Tensor, queries: torch.Tensor) -> torch.Tensor:
        """Turns a score into the number that `_rough` compares."""
        if not self._euclidean:
            return exact
        return 0.5 * (queries.double().square().sum(1, keepdim=True) - exact.square())

    def drop(self) -> None:
        """Forgets everything."""
        self._blocks.clear()
        self._ids = np.zeros(0, np.int64)
        self._vectors, self._offsets = torch.zeros((0, self._vectors.shape[1]), device=self._device), None


def _split(numbers: Positions, size: int) -> list[Positions]:
    return [numbers[start : start + size] for start in range(0, len(numbers), size)]
