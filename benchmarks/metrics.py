"""Metrics and statistics at speed: against sentence-transformers' evaluator, ranx and pytrec_eval.

10,000 queries x 100 results, 8 metrics x 6 cut-offs, values per query. Every contender starts from the
arrays that a search returns (positions and scores) and from the judgements in the form it reads fastest, and
builds from them whatever it needs. The others are given what they have of the 48 metrics. One thread each.

In the race with graded judgements (qrels) both sides have read these beforehand: they stay the same from
epoch to epoch. In all others the judgements are part of the work, for us as labels and for them as qrels.
"""

from __future__ import annotations

import os

os.environ.update(dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"))

import numpy as np
import pytrec_eval
from harness import Row, at_most, faster, race, report
from ranx import Qrels, Run
from ranx import evaluate as ranx_evaluate
from sentence_transformers.sentence_transformer.evaluation import InformationRetrievalEvaluator

from tunevane.core.metrics import Evaluation, Judgements, Ranking, evaluate
from tunevane.core.statistics import compare

QUERIES, RESULTS, DOCUMENTS, LABELS = 10_000, 100, 20_000, 1_000
CUTS = (1, 3, 5, 10, 50, 100)
OURS = [f"{name}@{k}" for name in ("ndcg", "map", "mrr", "recall", "precision", "hit", "f1", "dcg") for k in CUTS]
TREC = {f"{name}.{','.join(map(str, CUTS))}" for name in ("ndcg_cut", "map_cut", "recall", "P", "success")} | {
    "recip_rank"
}
RANX = [f"{name}@{k}" for name in ("ndcg", "map", "mrr", "recall", "precision", "hit_rate", "f1", "dcg") for k in CUTS]


class Problem:
    """One search: a fifth of what is relevant is found, spread over the ranks."""

    def __init__(self, seed: int, *, tied: bool = False) -> None:
        random = np.random.default_rng(seed)
        self.query_labels = random.integers(0, LABELS, QUERIES)
        self.index_labels = random.integers(0, LABELS, DOCUMENTS)
        self.query_words = [f"label {label}" for label in self.query_labels]
        self.index_words = [f"label {label}" for label in self.index_labels]
        by_label = [np.flatnonzero(self.index_labels == label) for label in range(LABELS)]
        rows = []
        for label in self.query_labels:
            own = by_label[label]
            found = own[: max(len(own) // 5, 1)]
            others = random.choice(DOCUMENTS, RESULTS * 2, replace=False)
            others = others[self.index_labels[others] != label][: RESULTS - len(found)]
            rows.append(random.permutation(np.concatenate([found, others])))
        self.ids = np.array(rows)
        scores = random.random((QUERIES, RESULTS)).astype(np.float32)
        self.scores = np.sort(np.round(scores, 1) if tied else scores, axis=1)[:, ::-1].copy()
        judged = [by_label[label] for label in self.query_labels]
        rows_judged = np.repeat(np.arange(QUERIES), [len(documents) for documents in judged])
        grades = random.integers(1, 4, len(rows_judged))
        self.graded = Judgements.from_triples(rows_judged, np.concatenate(judged), grades, QUERIES, DOCUMENTS)
        names = zip(map(str, rows_judged.tolist()), map(str, np.concatenate(judged).tolist()), strict=True)
        qrels: dict[str, dict[str, int]] = {str(q): {} for q in range(QUERIES)}
        for (query, document), grade in zip(names, grades.tolist(), strict=True):
            qrels[query][document] = grade
        self.graded_trec = pytrec_eval.RelevanceEvaluator(qrels, TREC)
        self.relevant = [set(map(str, documents)) for documents in judged]

    def qrels(self) -> dict[str, dict[str, int]]:
        return {str(q): dict.fromkeys(docs, 1) for q, docs in enumerate(self.relevant)}

    def run(self) -> dict[str, dict[str, float]]:
        # Distinct descending scores: the others break ties and round in ways of their own.
        scores = [float(RESULTS - i) for i in range(RESULTS)]
        return {str(q): dict(zip(map(str, line), scores, strict=True)) for q, line in enumerate(self.ids.tolist())}

    def ours(self) -> Evaluation:
        judged = Judgements.from_labels(self.query_words, self.index_words)
        return evaluate(Ranking(self.ids, self.scores), judged, OURS, limit=RESULTS)

    def ours_graded(self) -> Evaluation:
        return evaluate(Ranking(self.ids, self.scores), self.graded, OURS, limit=RESULTS)

    def trec(self) -> object:
        return pytrec_eval.RelevanceEvaluator(self.qrels(), TREC).evaluate(self.run())

    def trec_graded(self) -> object:
        return self.graded_trec.evaluate(self.run())

    def ranx(self) -> object:
        return ranx_evaluate(Qrels(self.qrels()), Run(self.run()), RANX, return_mean=False)

    def sentence_transformers(self) -> object:
        names = {str(q): "" for q in range(QUERIES)}
        ks = list(CUTS)
        evaluator = InformationRetrievalEvaluator(
            names, {}, {q: set(docs) for q, docs in self.qrels().items()},
            mrr_at_k=ks, ndcg_at_k=ks, accuracy_at_k=ks, precision_recall_at_k=ks, map_at_k=ks,
        )  # fmt: skip
        found = [
            [{"corpus_id": str(d), "score": float(s)} for d, s in zip(line, scores, strict=True)]
            for line, scores in zip(self.ids.tolist(), self.scores.tolist(), strict=True)
        ]
        return evaluator.compute_metrics(found)


def check(problem: Problem) -> None:
    """All contenders give the same numbers before anybody is timed."""
    ours = problem.ours()
    for mine, trec in ((ours, problem.trec()), (problem.ours_graded(), problem.trec_graded())):
        assert isinstance(trec, dict)
        ndcg = np.array([trec[str(q)]["ndcg_cut_10"] for q in range(QUERIES)])
        assert np.abs(mine.per_query["ndcg@10"] - ndcg).max() < 1e-12
    ranx = problem.ranx()
    assert isinstance(ranx, dict)
    assert abs(ours.values["map@100"] - float(np.mean(ranx["map@100"]))) < 1e-9
    theirs = problem.sentence_transformers()
    assert isinstance(theirs, dict)
    assert abs(ours.values["ndcg@10"] - theirs["ndcg@k"][10]) < 1e-9
    capped = evaluate(Ranking(problem.ids, problem.scores), problem.graded, ["map_min@10"], limit=RESULTS)
    assert abs(capped.values["map_min@10"] - theirs["map@k"][10]) < 1e-9


def speed() -> list[Row]:
    problem, tied = Problem(0), Problem(1, tied=True)
    check(problem)
    fast = race(
        {
            "ours": problem.ours,
            "ties": tied.ours,
            "trec": problem.trec,
            "ours, graded": problem.ours_graded,
            "trec, graded": problem.trec_graded,
        },
        rounds=9,
    )
    slow = race({"ours": problem.ours, "ranx": problem.ranx, "st": problem.sentence_transformers}, rounds=3, warmups=0)
    return [
        faster("48 metrics, s, against pytrec_eval", fast["ours"], fast["trec"], 40),
        faster(
            "48 metrics from graded judgements, s, against pytrec_eval",
            fast["ours, graded"],
            fast["trec, graded"],
            40,
        ),
        faster("48 metrics, s, against ranx", slow["ours"], slow["ranx"], 100),
        faster("48 metrics, s, against sentence-transformers", slow["ours"], slow["st"], 100),
        faster("48 metrics with ties in expectation, s, against pytrec_eval", fast["ties"], fast["trec"], 1),
    ]


def error_bars() -> Row:
    random = np.random.default_rng(0)
    before = {f"metric {i}": random.random(QUERIES) for i in range(48)}
    after = {name: values + 0.01 * random.standard_normal(QUERIES) for name, values in before.items()}
    seconds = race({"ours": lambda: compare(after, before, seed=1, resamples=10_000)}, rounds=5)["ours"]
    return at_most("p-values and intervals, 10,000 queries x 10,000 resamples x 48 metrics, CPU s", seconds, 1.0)


if __name__ == "__main__":
    report("metrics", [*speed(), error_bars()])
