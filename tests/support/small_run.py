"""The smallest run that can be disturbed: a model of random weights, a few words, epochs of less than a second."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import tunevane
from support.models import tiny
from support.words import INDEX, QUERIES, WORDS
from tunevane.callback import BestModelCheckpoint, EvaluationCallback
from tunevane.callback.base import Callback

TRAIN = [{"query": g, "document": e} for g, e in WORDS.items()] * 8
METRIC = "sentence-transformers_reciprocal_rank"


@cache
def model_folder() -> Path:
    """Makes the folder of a model that checkpoints in milliseconds."""
    scratch = Path(mkdtemp(prefix="tunevane-tests-"))
    tiny(scratch, counted=False).save(str(scratch / "model"), create_model_card=False)
    return scratch / "model"


def evaluation(**options: object) -> EvaluationCallback:
    """Asks for the retrieval metrics of the words; a `query_sample_size` beyond 16 only makes nothing remembered."""
    chosen: dict[str, object] = {"query_data": QUERIES, "index_data": INDEX, "limit": 10}
    return EvaluationCallback(**(chosen | options))  # type: ignore[arg-type]  # options by name


def fit(callbacks: Sequence[Callback] | None = None, **changes: object) -> tunevane.Run:
    """Starts the run; 16 batches an epoch, the best epoch is kept."""
    options: dict[str, object] = {
        "model": model_folder(),
        "train_data": TRAIN,
        "epochs": 3,
        "batch_size": 8,
        "learning_rate": 3e-3,
        "seed": 7,
        "callbacks": [evaluation(), BestModelCheckpoint(monitor="reciprocal_rank")] if callbacks is None else callbacks,
    }
    return tunevane.fit(**(options | changes))  # type: ignore[arg-type]  # options by name


def concluded(run: tunevane.Run) -> list[object]:
    """Everything a run concluded, to the bit: decisions, metrics of every epoch, the artifact's content."""
    history = run.history()
    epochs = [vars(epoch) for epoch in history.epochs]
    decisions = sorted((vars(each) for each in history.decisions), key=lambda each: (each["epoch"], each["callback"]))
    return [decisions, epochs, history.before, history.after, history.artifact_epoch, run.artifact_id]
