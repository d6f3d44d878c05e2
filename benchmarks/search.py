"""Search at speed: what a client of Qdrant spends, exact search in memory, and what surrounds encoding.

Every vector goes through what an evaluation does with it: equal ones are found, it is written as bytes, sent to the
embedded engine over gRPC, and counted there. CPU seconds are those of this process alone: the engine has its own, as a
server would. In the race without encoding both sides start from embeddings and judgements in memory, and end with the
same metrics. The last rows are whole evaluations over gRPC, with a real model and texts that every Python brings along.
"""

from __future__ import annotations

import os

os.environ.update(dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import inspect
import pkgutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from importlib import import_module
from pathlib import Path

import numpy as np
import torch
from harness import Row, at_least, at_most, faster, race, report
from sentence_transformers.sentence_transformer.evaluation import InformationRetrievalEvaluator

from tunevane.api.evaluator.v1 import evaluator_service_pb2 as wire
from tunevane.api.type.v1 import evaluation_pb2
from tunevane.core.dataset import Dataset, Item
from tunevane.core.metrics import Judgements
from tunevane.core.search_settings import SearchSettings
from tunevane.storage.blobs import BlobStore
from tunevane_evaluator.config import EvaluatorConfig
from tunevane_evaluator.engine import Engine
from tunevane_evaluator.index import torch_index
from tunevane_evaluator.index.distinct import Distinct
from tunevane_evaluator.index.port import Floats
from tunevane_evaluator.index.qdrant import QdrantIndex
from tunevane_evaluator.index.torch_index import TorchIndex
from tunevane_evaluator.outcome import Scores
from tunevane_evaluator.searches import Searches
from tunevane_evaluator.spaces import Space

sys.path.append(str(Path(__file__).parent.parent / "tests"))
from support import evaluator_service as service

BLOCK = 1024
LIMIT = 20
SETTINGS = ("dims=128", "distance=euclidean", "int8", "binary", "hnsw:m=16,ef=64", "hnsw:m=16,ef=128")


def unit(count: int, dimensions: int, seed: int) -> Floats:
    made = np.random.default_rng(seed).standard_normal((count, dimensions), dtype=np.float32)
    return np.asarray(made / np.linalg.norm(made, axis=1, keepdims=True), np.float32)


def client(folder: Path, documents: int = 50_000, queries: int = 4_000, rounds: int = 5) -> list[Row]:
    """What uploading and asking cost the client; the median over rounds."""
    vectors, asked = unit(documents, 384, 0), unit(queries, 384, 1)
    engine = Engine(EvaluatorConfig(state_dir=folder))
    uploads, searches = [], []
    for _ in range(rounds):
        index, distinct = engine.opener("benchmark", lambda: None)(False, SearchSettings()), Distinct()
        assert isinstance(index, QdrantIndex)
        index.create(384)
        began = time.process_time()
        for start in range(0, documents, BLOCK):
            block = vectors[start : start + BLOCK]
            ids = np.arange(start, start + len(block))
            assert distinct.new(ids, block) is None
            index.add(ids, block)
        index.seal(distinct.close(documents))
        uploads.append(time.process_time() - began)
        began = time.process_time()
        index.search(asked, LIMIT)
        searches.append(time.process_time() - began)
        index.drop()
    engine.close()
    return [
        at_least("vectors uploaded per client CPU second, 384-d", documents / float(np.median(uploads)), 600_000),
        at_least("queries answered per client CPU second, top-20", queries / float(np.median(searches)), 38_000),
    ]


def top_k(documents: int = 100_000, queries: int = 512) -> Row:
    """Finding the best, against computing the scores alone, both in float32."""
    vectors, asked = unit(documents, 384, 0), unit(queries, 384, 1)
    index = TorchIndex(halves=False)
    index.create(384)
    index.add(np.arange(documents), vectors)
    index.seal(documents)
    left, right = torch.from_numpy(asked), torch.from_numpy(vectors)
    step = torch_index.SCORES_AT_ONCE // documents

    def product() -> None:
        for start in range(0, queries, step):
            left[start : start + step] @ right.T

    seconds = race({"ours": lambda: index.search(asked, LIMIT), "product": product}, rounds=5)
    return at_most("exact top-20 in memory, times the matrix product alone", seconds["ours"] / seconds["product"], 1.2)


class Ready:
    """Stands for a model in sentence-transformers' evaluator: the embeddings are there already."""

    def __init__(self, queries: Floats) -> None:
        self.similarity_fn_name = "cosine"
        self._queries = torch.from_numpy(queries)

    def encode_query(self, *given: object, **named: object) -> torch.Tensor:
        return self._queries


def without_encoding(queries: int = 2_000, documents: int = 100_000) -> Row:
    """From embeddings to metrics, against sentence-transformers' evaluator."""
    labels = np.random.default_rng(2).integers(0, 5_000, documents)
    query_labels = np.random.default_rng(3).integers(0, 5_000, queries)
    vectors = unit(documents, 384, 0) + unit(5_000, 384, 4)[labels]
    asked = unit(queries, 384, 1) + unit(5_000, 384, 4)[query_labels]
    by_label: dict[int, set[str]] = {}
    for number, label in enumerate(labels.tolist()):
        by_label.setdefault(label, set()).add(str(number))
    peer = InformationRetrievalEvaluator(
        {str(n): "" for n in range(queries)},
        {str(n): "" for n in range(documents)},
        {str(n): by_label.get(label, set()) for n, label in enumerate(query_labels.tolist())},
        mrr_at_k=[10], ndcg_at_k=[10], accuracy_at_k=[1, 10], precision_recall_at_k=[1, 10], map_at_k=[20],
        score_functions={"cosine": torch_cosine},
    )  # fmt: skip
    names = ["mrr@10", "ndcg@10", "hit@1,10", "precision@1,10", "recall@1,10", "map_min@20"]
    plan = evaluation_pb2.EvaluationPlan(metrics=names, limit=LIMIT)
    words = [str(label) for label in query_labels.tolist()]
    index_words = [str(label) for label in labels.tolist()]
    found: dict[str, dict[str, float]] = {}

    def ours() -> None:
        judged = Judgements.from_labels(words, index_words)
        searches = Searches(Space("cosine"), (), lambda *_: TorchIndex(), asked)
        searches.create()
        for start in range(0, documents, BLOCK):
            block = vectors[start : start + BLOCK]
            searches.add(np.arange(start, start + len(block)), block)
        searches.seal(documents, lambda _: nullcontext())
        scores = Scores(searches.main, plan, judged)
        for start in range(0, queries, 512):
            results = searches.search(searches.main, start, 512, LIMIT)
            scores.add(start, results, results)
        found["ours"] = scores.total().values

    def theirs() -> None:
        scored = peer.compute_all_metrics(Ready(asked), corpus_embeddings=torch.from_numpy(vectors))["cosine"]
        found["theirs"] = {"ndcg@10": scored["ndcg@k"][10], "mrr@10": scored["mrr@k"][10]}

    seconds = race({"ours": ours, "theirs": theirs}, rounds=3)
    for name, value in found["theirs"].items():
        assert abs(found["ours"][name] - value) < 1e-6, (name, found)
    return faster(
        "from embeddings to metrics, 2,000 x 100,000, CPU s, against sentence-transformers",
        seconds["ours"],
        seconds["theirs"],
        2.3,
    )


def torch_cosine(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(left) @ torch.nn.functional.normalize(right).T


def docstrings(count: int) -> list[Item]:
    """Lists what functions of the standard library say about themselves, labelled by their module."""
    items: dict[str, Item] = {}
    for module in sorted(pkgutil.iter_modules(), key=lambda each: each.name):
        if module.name not in sys.stdlib_module_names or module.name in (
            "antigravity",
            "this",
            "idlelib",
            "turtledemo",
        ):
            continue
        try:
            members = inspect.getmembers(import_module(module.name))
        except Exception:  # a module of another system
            continue
        for name, member in members:
            text = inspect.getdoc(member) if callable(member) and not name.startswith("_") else None
            if text and len(text) > 40:
                items.setdefault(text, Item(f"{module.name}.{name}", text[:600], label=module.name))
        if len(items) >= count:
            break
    return list(items.values())[:count]


@contextmanager
def evaluator(folder: Path) -> Iterator[Callable[..., tuple[float, wire.EvaluationResult]]]:
    """A service with its client, over gRPC: returns the wall time of an evaluation, and what came out."""
    store = BlobStore(folder / "mine")
    texts = docstrings(700)
    queries, documents = Dataset("items", tuple(texts[::7])), Dataset("items", tuple(texts))
    checkpoint = service.weights(store)
    with service.running(EvaluatorConfig(port=0, state_dir=folder / "state"), store) as running:

        def evaluate(seed: int, **plan: object) -> tuple[float, wire.EvaluationResult]:
            request = service.request(store, checkpoint, queries, documents, seed=seed, exclude_self=True, **plan)
            running.push(request)
            began = time.perf_counter()
            *_, last = running.updates(request)
            assert last.result.computed
            return time.perf_counter() - began, last.result

        evaluate(0)
        yield evaluate


def whole(folder: Path, rounds: int = 3) -> tuple[list[Row], dict[str, object]]:
    """Whole evaluations: what is not encoding or searching, and what other ways to search add and find."""
    overheads, costs = [], []
    with evaluator(folder) as evaluate:
        for number in range(1, rounds + 1):
            wall, plain = evaluate(number, metrics=["ndcg@10"])
            overheads.append(wall / (plain.seconds["encode"] + plain.seconds["search"]))
            more, result = evaluate(number, metrics=["ndcg@10"], search=SETTINGS)
            costs.append((more - result.seconds["build"]) / wall)
    found = {
        each.name: {"recall": round(each.recall, 4), "ndcg@10": round(each.metrics.values["ndcg@10"], 4)}
        for each in result.search
    }
    found["exact"] = {"recall": 1.0, "ndcg@10": round(result.metrics.values["ndcg@10"], 4)}
    return [
        at_most("whole evaluation over gRPC, wall, times encoding and search", float(np.median(overheads)), 1.02),
        at_most(f"{len(SETTINGS)} more ways to search, wall, times one (building apart)", float(np.median(costs)), 1.5),
    ], {"what other ways to search find": found}


if __name__ == "__main__":
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        rows = [*client(Path(place) / "client"), top_k(), without_encoding()]
        more, notes = whole(Path(place) / "whole")
    report("search", rows + more, notes)
