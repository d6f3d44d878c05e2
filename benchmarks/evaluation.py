"""A whole evaluation, through gRPC and the embedded Qdrant, against sentence-transformers' evaluator in process.

The corpus is the docstrings of installed packages; a query is the name of what a docstring describes, and has that one
relevant document. Same model, same texts, same metrics. Ours counts the CPU seconds of all our processes: the client,
the service in a thread of this one, and the engine in its child. The first evaluation of a service uploads, builds
the model and tokenises; the second has new weights and does none of that. The peer's model is built beforehand.

    python evaluation.py [QUERIES DOCUMENTS ROUNDS]
"""

from __future__ import annotations

import os

os.environ.update(dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import ast
import gc
import random
import statistics
import sys
import tempfile
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import psutil
import torch
from harness import Row, at_most, faster, report
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.evaluation import InformationRetrievalEvaluator

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from support.evaluator_service import running
from tunevane.api.evaluator.v1 import evaluator_service_pb2 as wire
from tunevane.api.type.v1 import blob_pb2, evaluation_pb2
from tunevane.callback.components import component
from tunevane.core.dataset import Item, from_items
from tunevane.nn import checkpoint, models
from tunevane.nn.encode import Encoder
from tunevane.nn.feature_cache import FeatureCache
from tunevane.storage import datasets
from tunevane.storage.blobs import BlobStore
from tunevane_evaluator.config import EvaluatorConfig

PACKAGES = ("torch", "transformers", "sentence_transformers", "numpy", "huggingface_hub")
METRICS = {"ndcg@10": "cosine_ndcg@10", "mrr@10": "cosine_mrr@10", "recall@10": "cosine_recall@10"}
MINILM = component("minilm", {})


def docstrings() -> list[tuple[str, str]]:
    """Lists names and docstrings of functions and classes, each docstring once, by name of file."""
    found: dict[str, str] = {}
    for package in PACKAGES:
        spec = find_spec(package)
        assert spec is not None
        assert spec.origin is not None
        for path in sorted(Path(spec.origin).parent.rglob("*.py")):
            try:
                with warnings.catch_warnings(action="ignore"):
                    tree = ast.parse(path.read_text(encoding="utf-8"))
            except (SyntaxError, UnicodeDecodeError):
                continue
            for node in ast.walk(tree):
                if isinstance(node, ast.FunctionDef | ast.ClassDef):
                    text = ast.get_docstring(node)
                    if text and len(text) > 40:
                        found.setdefault(text, node.name.strip("_").replace("_", " "))
    return [(name, text) for text, name in found.items() if name]


class Problem:
    """Queries and documents in both forms."""

    def __init__(self, queries: int, documents: int) -> None:
        chosen = random.Random(0).sample(docstrings(), documents)
        self.queries = {f"q{n}": name for n, (name, _) in enumerate(chosen[:queries])}
        self.documents = {f"d{n}": text for n, (_, text) in enumerate(chosen)}
        self.relevant = {f"q{n}": {f"d{n}"} for n in range(queries)}

    def peer(self, model: SentenceTransformer) -> dict[str, float]:
        evaluator = InformationRetrievalEvaluator(
            self.queries,
            self.documents,
            self.relevant,
            mrr_at_k=[10],
            ndcg_at_k=[10],
            accuracy_at_k=[10],
            precision_recall_at_k=[10],
            map_at_k=[10],
            batch_size=32,
            write_csv=False,
        )
        with torch.inference_mode():
            found = evaluator(model)
        assert isinstance(found, dict)
        return {ours: found[theirs] for ours, theirs in METRICS.items()}

    def request(self, store: BlobStore, weights: blob_pb2.Bundle, bf16: bool) -> wire.EvaluateRequest:
        asked = [Item(name, text, relevant={f"d{name[1:]}": 1.0}) for name, text in self.queries.items()]
        index = [Item(name, text) for name, text in self.documents.items()]
        plan = evaluation_pb2.EvaluationPlan(
            query_data=datasets.save(from_items(asked), store),
            index_data=datasets.save(from_items(index), store),
            metrics=list(METRICS),
            limit=10,
            precision=evaluation_pb2.PRECISION_BF16 if bf16 else evaluation_pb2.PRECISION_FP32,
        )
        return wire.EvaluateRequest(run="runs/bench", model=MINILM, checkpoint=weights, plan=plan)


def cpu_seconds() -> float:
    """Adds up this process and its children, those that have ended included."""
    own = psutil.Process().cpu_times()
    living = [child.cpu_times() for child in psutil.Process().children(recursive=True)]
    ended = own.children_user + own.children_system
    return own.user + own.system + ended + sum(each.user + each.system for each in living)


def timed(work: Callable[[], object]) -> float:
    gc.collect()
    began = cpu_seconds()
    work()
    return cpu_seconds() - began


class Race:
    """Contenders in turn, round after round."""

    def __init__(self, problem: Problem, folder: Path) -> None:
        self.problem = problem
        self.seconds: dict[str, list[float]] = {}
        self.metrics: dict[str, dict[str, float]] = {}
        self._model = models.build(MINILM)
        self._folder = folder
        self._store = BlobStore(folder / "mine")
        self._weights = checkpoint.save(self._model.state_dict(), self._store)
        # One number changed, as little as can be: the same work and the same metrics, and yet another checkpoint.
        changed = {name: tensor.clone() for name, tensor in self._model.state_dict().items()}
        changed["0.model.pooler.dense.bias"][0] += 1
        self._changed = checkpoint.save(changed, self._store)

    def note(self, name: str, work: Callable[[], dict[str, float]]) -> None:
        seconds = timed(lambda: self.metrics.update({name: work()}))
        self.seconds.setdefault(name, []).append(seconds)

    def round(self, number: int) -> None:
        self.note("peer", lambda: self.problem.peer(self._model))
        for kind in ("fp32", "bf16"):
            config = EvaluatorConfig(port=0, state_dir=self._folder / f"{kind}-{number}", drain_seconds=1)
            with running(config, self._store) as client:
                for name, weights in (("first", self._weights), ("second", self._changed)):

                    def evaluate(weights: blob_pb2.Bundle = weights, bf16: bool = kind == "bf16") -> dict[str, float]:
                        asked = self.problem.request(self._store, weights, bf16)
                        client.push(asked)
                        *_, last = client.stub.Evaluate(asked, timeout=3600)
                        return dict(last.result.metrics.values)

                    self.note(f"{kind} {name}", evaluate)
        texts = list(self.problem.documents.values())
        encoder = Encoder(self._model, FeatureCache(self._folder / "features"))
        self.note("encode fp32", lambda: {"norm": float(np.linalg.norm(encoder.encode(texts)))})
        self.note("encode bf16", lambda: {"norm": float(np.linalg.norm(encoder.encode(texts, bf16=True)))})
        self.note("peer encode", lambda: {"norm": float(np.linalg.norm(self._model.encode(texts)))})

    def median(self, name: str) -> float:
        return statistics.median(self.seconds[name])


def main(queries: int = 500, documents: int = 2000, rounds: int = 3) -> None:
    torch.set_num_threads(1)
    problem = Problem(queries, documents)
    with tempfile.TemporaryDirectory() as scratch:
        race = Race(problem, Path(scratch))
        for number in range(rounds):
            race.round(number)
    peer, found = race.median("peer"), race.metrics
    what = f"{queries:,} queries x {documents:,} docstrings"
    gap = {
        kind: max(
            abs(found[f"{kind} {turn}"][each] - found["peer"][each]) for each in METRICS for turn in ("first", "second")
        )
        for kind in ("fp32", "bf16")
    }
    rows: list[Row] = [
        faster(f"{what}, fp32, first evaluation, CPU s", race.median("fp32 first"), peer, 1.6),
        faster(f"{what}, fp32, second evaluation, CPU s", race.median("fp32 second"), peer, 1.6),
        faster(f"{what}, bf16, first evaluation, CPU s", race.median("bf16 first"), peer, 3.5),
        faster(f"{what}, bf16, second evaluation, CPU s", race.median("bf16 second"), peer, 3.5),
        faster("encoding alone, fp32, CPU s", race.median("encode fp32"), race.median("peer encode"), 1.6),
        faster("encoding alone, bf16, CPU s", race.median("encode bf16"), race.median("peer encode"), 3.5),
        at_most("largest difference of a metric from the peer's, fp32", gap["fp32"], 5e-7),
        at_most("largest difference of a metric from the peer's, bf16", gap["bf16"], 0.01),
    ]
    tokens = sum(
        len(each) for each in race._model.tokenizer(list(problem.documents.values()), truncation=True)["input_ids"]
    )
    notes = {"metrics": found["peer"], "seconds": race.seconds, "mean tokens": tokens / documents}
    report("evaluation", rows, notes)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
