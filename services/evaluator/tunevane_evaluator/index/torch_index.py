"""Exact search in memory: a rough matrix product picks candidates, and float64 puts them in order.

The product may be in bfloat16, four times as fast where the processor has instructions for it. How far a rough score
can be from the true one is known from what rounding took away from each vector, so a query is searched again, in
float32 and with more candidates, whenever a document that was left out could belong to its best.
"""

from __future__ import annotations

import time

import numpy as np
import numpy.typing as npt
import torch

from tunevane.core.search_settings import SearchSettings
from tunevane.errors import UnavailableError
from tunevane_evaluator.index.order import Hits, whole_ties
from tunevane_evaluator.index.port import EXACT, Floats, Ids, Positions

BLOCK = 64
"""Documents whose best score is looked at before each of them is: one pass over the scores instead of a selection."""

SCORES_AT_ONCE = 32_000_000
"""Rough scores held at once: bounds memory."""

NUMBERS_AT_ONCE = 1_000_000
"""Numbers in float64 held at once: bounds memory."""

SPARE = 24
"""Candidates beyond those wanted, whose order the rough scores may have wrong."""


class TorchIndex:
    """Keeps all vectors in memory, on the CPU or a GPU, and compares every pair."""

    def __init__(
        self, *, euclidean: bool = False, device: torch.device | str = "cpu", halves: bool | None = None
    ) -> None:
        """Makes an empty index.

        Args:
            euclidean: Whether scores are negated Euclidean distances rather than dot products.
            device: Where vectors are kept and compared.
            halves: Whether candidates are picked in bfloat16; None: where it is faster.

        """
        self._euclidean = euclidean
        self._may_halve = halves
        self._device = torch.device(device)
        self._blocks: list[tuple[Positions, Floats]] = []
        self._ids: npt.NDArray[np.int64] = np.zeros(0, np.int64)
        self._vectors = torch.zeros((0, 0))
        self._halves: torch.Tensor | None = None
        self._offsets: torch.Tensor | None = None
        self._longest = self._rounded = 0.0

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
        lengths = torch.linalg.vector_norm(self._vectors, dim=1)
        self._longest = float(lengths.max()) if rows else 0.0
        self._offsets = -0.5 * lengths.square() if self._euclidean else None
        # Offsets of long vectors would drown in bfloat16.
        may = halves_pay(self._vectors) if self._may_halve is None else self._may_halve
        if may and not self._euclidean:
            self._halves = self._vectors.bfloat16()
            self._rounded = float(torch.linalg.vector_norm(self._vectors - self._halves, dim=1).max())

    def search(self, queries: Floats, limit: int, settings: SearchSettings = EXACT) -> tuple[Ids, Floats]:
        """Finds the nearest vectors of each query."""
        asked = torch.from_numpy(np.ascontiguousarray(queries)).to(self._device)

        def fetch(numbers: Positions, ask: int) -> Hits:
            size = max(min(SCORES_AT_ONCE // max(len(self._vectors), 1), SCORES_AT_ONCE // (ask * BLOCK)), 1)
            parts = [
                self._best(asked[torch.from_numpy(numbers[start : start + size])], ask, ask + SPARE, self._halves)
                for start in range(0, len(numbers), size)
            ]
            rows = self._ids[torch.cat([rows for rows, _ in parts]).cpu().numpy()]
            return rows, torch.cat([scores for _, scores in parts]).float().cpu().numpy()

        return whole_ties(fetch, len(queries), limit, len(self._ids))

    def _best(
        self, queries: torch.Tensor, limit: int, candidates: int, halves: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns rows and exact scores of the best `limit`, both `[q, limit]`."""
        candidates = min(candidates, len(self._ids))
        rough, rows = self._rough(queries, candidates, halves)
        exact = self._exact(queries, rows)
        order = torch.argsort(exact, dim=1, descending=True, stable=True)[:, :limit]
        rows, exact = torch.gather(rows, 1, order), torch.gather(exact, 1, order)
        if candidates < len(self._ids):
            # What was left out scores at most as much as the last candidate, but for rounding.
            most = rough[:, -1:].double() + self._error(queries, rough[:, :1].double(), halves)
            unsure = (most > self._as_rough(exact[:, -1:], queries)).flatten()
            if bool(unsure.any()):
                rows[unsure], exact[unsure] = self._best(queries[unsure], limit, 2 * candidates, None)
        return rows, exact

    def _rough(
        self, queries: torch.Tensor, count: int, halves: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the best rough scores, and the rows they belong to: the best are in the best blocks."""
        scores = queries @ self._vectors.T if halves is None else queries.bfloat16() @ halves.T
        if self._offsets is not None:
            scores += self._offsets
        scores[:, len(self._ids) :] = -torch.inf
        blocks = scores.view(len(queries), -1, BLOCK)
        chosen = blocks.amax(dim=2).topk(min(count, blocks.shape[1]), dim=1, sorted=False).indices
        inside = torch.gather(blocks, 1, chosen[:, :, None].expand(-1, -1, BLOCK)).flatten(1)
        best = inside.topk(count, dim=1)
        return best.values, torch.gather(chosen, 1, best.indices // BLOCK) * BLOCK + best.indices % BLOCK

    def _error(self, queries: torch.Tensor, highest: torch.Tensor, halves: torch.Tensor | None) -> torch.Tensor:
        """Returns how far a rough score may be from the true one, `[q, 1]`.

        |q.x - q'.x'| <= |q - q'| |x| + |q'| |x - x'| by Cauchy and Schwarz; then come the sum's rounding in float32,
        of d products, and that of the result.
        """
        lengths = torch.linalg.vector_norm(queries.double(), dim=1, keepdim=True)
        reach = lengths + self._longest if self._euclidean else lengths
        error: torch.Tensor = self._vectors.shape[1] * torch.finfo(torch.float32).eps * self._longest * reach
        if halves is not None:
            lost = torch.linalg.vector_norm((queries - queries.bfloat16()).double(), dim=1, keepdim=True)
            error = error + lost * self._longest + (lengths + lost) * self._rounded
            error = error + torch.finfo(torch.bfloat16).eps * (highest.abs() + error)
        return error

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
        """Turns an exact score into the number that `_rough` computes."""
        if not self._euclidean:
            return exact
        rough: torch.Tensor = 0.5 * (queries.double().square().sum(1, keepdim=True) - exact.square())
        return rough

    def drop(self) -> None:
        """Forgets everything."""
        self._blocks.clear()
        self._ids = np.zeros(0, np.int64)
        self._vectors = torch.zeros((0, self._vectors.shape[1]), device=self._device)
        self._halves = self._offsets = None


def halves_pay(vectors: torch.Tensor) -> bool:
    """Tells whether products are faster in bfloat16 here, by trying; small indexes are not worth it."""
    if len(vectors) < 8 * BLOCK * BLOCK:
        return False
    some = vectors[: BLOCK * BLOCK]
    seconds = {}
    for kind in (torch.float32, torch.bfloat16):
        left, right = some[:BLOCK].to(kind), some.to(kind)
        left @ right.T  # the first product of a kind prepares it
        if vectors.is_cuda:
            torch.cuda.synchronize()
        began = time.perf_counter()
        product = left @ right.T
        float(product[-1, -1])
        seconds[kind] = time.perf_counter() - began
    return seconds[torch.bfloat16] < 0.7 * seconds[torch.float32]
