"""100,000 random rankings against pytrec_eval, ir-measures, ranx and docarray's definitions.

docarray 0.21 itself needs an older NumPy than this project, so its definitions are written out once more in
`support.plain_metrics`.
"""

from typing import Any  # the oracles are untyped

import ir_measures
import numpy as np
import numpy.typing as npt
import pytest
import pytrec_eval

from support import plain_metrics
from tunevane.core.metrics import DEFAULT_METRICS, Judgements, Ranking, evaluate

CUTS = (1, 3, 10, 20)
RANX = {name: name for name in ("ndcg", "map", "mrr", "recall", "precision", "f1", "dcg")} | {"hit": "hit_rate"}
IR_MEASURES = {"ndcg": "nDCG", "map": "AP", "mrr": "RR", "recall": "R", "precision": "P", "hit": "Success"}
TREC = {"ndcg": "ndcg_cut", "map": "map_cut", "recall": "recall", "precision": "P", "hit": "success"}
QUERIES, DOCUMENTS, COLUMNS = 20_000, 60, 20


class Fuzz:
    """Random results of different lengths and graded judgements, most documents not judged."""

    def __init__(self, seed: int) -> None:
        random = np.random.default_rng(seed)
        order = np.argsort(random.random((QUERIES, DOCUMENTS)), axis=1)[:, :COLUMNS]
        lengths = random.integers(1, COLUMNS + 1, QUERIES)
        self.ids = np.where(np.arange(COLUMNS) < lengths[:, None], order, -1)
        self.scores = np.broadcast_to(-np.arange(float(COLUMNS)), self.ids.shape)
        density = random.choice([0.02, 0.1, 0.5], (QUERIES, 1))
        grades = random.integers(1, 5, (QUERIES, DOCUMENTS))
        self.grades = np.where(random.random((QUERIES, DOCUMENTS)) < density, grades, 0)
        self.judgements = Judgements.from_triples(*self._triples(), QUERIES, DOCUMENTS)
        self.ranking = Ranking(self.ids, self.scores)

    def _triples(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        rows, columns = np.nonzero(self.grades)
        return rows, columns, self.grades[rows, columns]

    def qrels(self) -> dict[str, dict[str, int]]:
        # trec_eval leaves out queries without a relevant document; a judged but irrelevant one keeps them in.
        return {
            str(q): {**{str(d): int(line[d]) for d in np.flatnonzero(line)}, "none": 0}
            for q, line in enumerate(self.grades)
        }

    def run(self) -> dict[str, dict[str, float]]:
        return {
            str(q): {str(d): float(COLUMNS - i) for i, d in enumerate(line) if d >= 0}
            for q, line in enumerate(self.ids.tolist())
        }


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("ties", ["expected", "position"])
def test_equals_trec_eval(seed: int, ties: Any) -> None:
    fuzz = Fuzz(seed)
    cuts = ",".join(map(str, CUTS))
    names = [f"{name}@{cuts}" for name in [*TREC, "mrr"]]
    ours = evaluate(fuzz.ranking, fuzz.judgements, [*names, "r_precision"], limit=COLUMNS, ties=ties).per_query
    measures = {f"{trec}.{cuts}" for trec in TREC.values()} | {"recip_rank", "Rprec"}
    theirs: dict[str, dict[str, float]] = pytrec_eval.RelevanceEvaluator(fuzz.qrels(), measures).evaluate(fuzz.run())
    for name, trec in TREC.items():
        for k in CUTS:
            peer = np.array([theirs[str(q)][f"{trec}_{k}"] for q in range(QUERIES)])
            np.testing.assert_allclose(ours[f"{name}@{k}"], peer, rtol=0, atol=1e-12, err_msg=f"{name}@{k}")
    for name, trec in ((f"mrr@{COLUMNS}", "recip_rank"), ("r_precision", "Rprec")):
        peer = np.array([theirs[str(q)][trec] for q in range(QUERIES)])
        np.testing.assert_allclose(ours[name], peer, rtol=0, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("seed", range(5))
def test_equals_docarray(seed: int) -> None:
    fuzz = Fuzz(seed)
    ours = evaluate(fuzz.ranking, fuzz.judgements, limit=7).per_query
    relevant = fuzz.judgements.find(fuzz.ids)[0].astype(int)
    totals = (fuzz.grades > 0).sum(axis=1)
    for q in range(QUERIES):
        found = relevant[q][fuzz.ids[q] >= 0][:7].tolist()
        expected = plain_metrics.reference(found, int(totals[q]))
        for name in DEFAULT_METRICS:
            assert abs(ours[name][q] - expected[name]) < 1e-12, (q, name)


@pytest.mark.parametrize("seed", range(5))
def test_equals_ir_measures(seed: int) -> None:
    fuzz = Fuzz(seed)
    names = {getattr(ir_measures, theirs) @ k: f"{ours}@{k}" for ours, theirs in IR_MEASURES.items() for k in (3, 20)}
    names[ir_measures.Rprec] = "r_precision"
    ours = evaluate(fuzz.ranking, fuzz.judgements, list(names.values()), limit=COLUMNS).per_query
    theirs = {name: np.full(QUERIES, np.nan) for name in names.values()}
    for each in ir_measures.iter_calc(list(names), fuzz.qrels(), fuzz.run()):
        theirs[names[each.measure]][int(each.query_id)] = each.value
    for name, peer in theirs.items():
        np.testing.assert_allclose(ours[name], peer, rtol=0, atol=1e-12, err_msg=name)


# ranx compiles its kernels with numba, which warns about unsigned to signed casts of its own.
@pytest.mark.filterwarnings("ignore:.*unsafe cast from uint64 to int64")
@pytest.mark.parametrize("seed", range(5))
def test_equals_ranx(seed: int) -> None:
    ranx = pytest.importorskip("ranx", reason="ranx comes with the extra 'bench'")
    fuzz = Fuzz(seed)
    names = {f"{theirs}@{k}": f"{ours}@{k}" for ours, theirs in RANX.items() for k in CUTS}
    names["r-precision"] = "r_precision"
    ours = evaluate(fuzz.ranking, fuzz.judgements, list(names.values()), limit=COLUMNS).per_query
    qrels = fuzz.qrels()
    theirs = ranx.evaluate(ranx.Qrels(qrels), ranx.Run(fuzz.run()), list(names), return_mean=False)
    order = np.array(sorted(qrels)).astype(int)  # ranx sorts queries as strings
    for theirs_name, name in names.items():
        np.testing.assert_allclose(ours[name][order], theirs[theirs_name], rtol=0, atol=1e-12, err_msg=name)
