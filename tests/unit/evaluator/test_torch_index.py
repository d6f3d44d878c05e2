"""Search in memory is exact, however roughly candidates are picked."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from support.exact_index import ExactIndex
from tunevane_evaluator.index import torch_index
from tunevane_evaluator.index.port import Floats
from tunevane_evaluator.index.torch_index import TorchIndex


def clustered(count: int, seed: int) -> Floats:
    """Makes vectors so close to each other that bfloat16 cannot tell many of them apart."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(5, 32))
    made = centres[random.integers(0, 5, count)] + 1e-3 * random.normal(size=(count, 32))
    return np.asarray(made / np.linalg.norm(made, axis=1, keepdims=True), np.float32)


@pytest.mark.parametrize(("euclidean", "halves"), [(False, True), (False, False), (True, False)])
def test_rough_scores_never_cost_a_result(euclidean: bool, halves: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_index, "SCORES_AT_ONCE", 50_000)
    documents, queries = clustered(3000, 0), clustered(40, 1)
    ours, theirs = TorchIndex(euclidean=euclidean, halves=halves), ExactIndex(euclidean=euclidean)
    found = []
    for index in (ours, theirs):
        index.create(32)
        index.add(np.arange(3000), documents)
        index.seal(3000)
        found.append(index.search(queries, 10))
    assert (ours._halves is not None) == halves
    # The brute force subtracts squares; distances of a thousandth have few digits left there.
    np.testing.assert_allclose(found[0][1][:, :10], found[1][1][:, :10], atol=1e-6 if not euclidean else 1e-4)
    if not euclidean:
        np.testing.assert_array_equal(found[0][0][:, :10], found[1][0][:, :10])
    ours.drop()


def test_rows_that_fill_the_last_block_are_never_found() -> None:
    index = TorchIndex(halves=False)
    index.create(2)
    index.add(np.array([8]), -np.ones((1, 2), np.float32))
    index.seal(1)
    ids, scores = index.search(np.ones((1, 2), np.float32), 5)
    assert ids.tolist() == [[8]]
    assert scores.tolist() == [[-2]]


def test_whether_bfloat16_pays_is_tried_out_on_large_indexes() -> None:
    assert not torch_index.halves_pay(torch.zeros((100, 4)))
    assert torch_index.halves_pay(torch.zeros((40_000, 64))) in (True, False)
