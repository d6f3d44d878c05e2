"""Makes `learning_runs.npz`: real runs for `decisions.py`, with the reciprocal rank of every query at every epoch.

The demo's task with a small model (three layers) and few pairs, at two learning rates. One array [epochs, queries]
per learning rate. Takes about five minutes on two cores:

    python benchmarks/learning_runs.py
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

from tunevane.api.type.v1 import component_pb2
from tunevane.callback.components import component
from tunevane.core.metrics import Judgements, Ranking, evaluate
from tunevane.nn import models

sys.path.insert(0, str(Path(__file__).parents[1] / "examples" / "emoji_names"))
from data import Task, build  # type: ignore[import-not-found]  # an example, found by its folder

EPOCHS, PAIRS, QUERIES, BATCH = 14, 1000, 1000, 50
LEARNING_RATES = (2e-4, 1e-3)
OUT = Path(__file__).parent / "learning_runs.npz"


def small_model() -> SentenceTransformer:
    """Builds three layers of minilm."""
    stated: component_pb2.Component = component("minilm", {"layers": 3, "max_seq_length": 16})
    return models.build(stated, None)


def reciprocal_ranks(model: SentenceTransformer, task: Task) -> np.ndarray:
    """Searches all documents for every query; returns the reciprocal rank of the right one [q]."""
    model.eval()
    with torch.no_grad():
        queries = model.encode([query.text for query in task.queries], normalize_embeddings=True, batch_size=128)
        documents = model.encode(list(task.documents), normalize_embeddings=True, batch_size=128)
    scores = queries @ documents.T
    ids = np.argsort(-scores, axis=1, kind="stable")[:, :20]
    judged = Judgements.from_labels([query.english for query in task.queries], list(task.documents))
    ranking = Ranking(ids, np.take_along_axis(scores, ids, axis=1))
    return evaluate(ranking, judged, ["mrr@20"], limit=20).per_query["mrr@20"]


def train(task: Task, learning_rate: float) -> np.ndarray:
    """Trains a fresh model and returns the values of every epoch [epochs, q]."""
    torch.manual_seed(0)
    order = np.random.default_rng(0)
    model = small_model()
    loss = MultipleNegativesRankingLoss(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate)
    found = []
    for epoch in range(EPOCHS):
        model.train()
        for _ in range(PAIRS // BATCH):
            chosen = [task.train[i] for i in order.choice(PAIRS, BATCH, replace=False)]
            columns = [model.tokenize([getattr(name, field) for name in chosen]) for field in ("text", "english")]
            optimizer.zero_grad()
            loss(columns, torch.arange(BATCH)).backward()
            optimizer.step()
        found.append(reciprocal_ranks(model, task))
        print(f"learning rate {learning_rate:g}, epoch {epoch + 1}: {found[-1].mean():.4f}", flush=True)
    return np.stack(found)


def main() -> None:
    torch.set_num_threads(1)
    task = build(pairs=PAIRS, queries=QUERIES)
    runs = {f"learning rate {rate:g}": train(task, rate).astype(np.float32) for rate in LEARNING_RATES}
    np.savez_compressed(OUT, **runs)  # type: ignore[arg-type]  # numpy's own signature takes arrays by name


if __name__ == "__main__":
    main()
