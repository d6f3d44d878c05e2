"""Items that training learns per second of CPU: our loop against the trainer of sentence-transformers.

The same MiniLM weights (three layers), pairs, batches of 64, loss, AdamW and arithmetic; no checkpoints, no evaluation,
no reports on either side. Each has its own defaults otherwise: theirs updates weights in one fused kernel. What is
timed is one epoch, and building neither model nor trainer.
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset as Table
from harness import faster, race, report
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

from tunevane.api.trainer.v1 import run_pb2
from tunevane.api.type.v1 import evaluation_pb2
from tunevane.callback.components import component
from tunevane.callback.schedule import Schedule
from tunevane.core.dataset import from_pairs
from tunevane.nn import models
from tunevane.storage import datasets
from tunevane.storage.blobs import BlobStore
from tunevane_trainer.training import assembly
from tunevane_trainer.training.loop import Trainer

BATCH_SIZE = 64
LENGTH = 32


class Quiet:
    """Takes events and keeps none."""

    epoch = 0
    step = 0

    def emit(self, *events: object) -> None:
        """Takes events."""


def pairs(count: int) -> list[tuple[str, str]]:
    """Lists names of emoji in German and English, over and over with a number."""
    import emoji

    emoji.config.load_language(["de", "en"])
    names = [
        (about["de"].strip(":").replace("_", " "), about["en"].strip(":").replace("_", " "))
        for about in emoji.EMOJI_DATA.values()
        if "de" in about
    ]
    return [(f"{names[n % len(names)][0]} {n}", f"{names[n % len(names)][1]} {n}") for n in range(count)]


def ours(rows: list[tuple[str, str]], folder: Path, precision: evaluation_pb2.Precision.ValueType) -> Trainer:
    store = BlobStore(folder)
    spec = run_pb2.RunSpec(
        model=component("minilm", {"layers": 3, "max_seq_length": LENGTH}),
        train_data=datasets.save(from_pairs(rows), store),
        optimizer=component("adamw", {"lr": 2e-5}),
        epochs=1000,
        batch_size=BATCH_SIZE,
        device="cpu",
        precision=precision,
    )
    schedule = Schedule([], "minilm", with_val_loss=False)
    return assembly.trainer(spec, store, Quiet(), schedule, lambda: False)


def theirs(rows: list[tuple[str, str]], folder: Path, *, bf16: bool) -> SentenceTransformerTrainer:
    model: SentenceTransformer = models.build(component("minilm", {"layers": 3, "max_seq_length": LENGTH}))
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(folder),
        num_train_epochs=1,
        per_device_train_batch_size=BATCH_SIZE,
        learning_rate=2e-5,
        weight_decay=0.01,
        bf16=bf16,
        use_cpu=True,
        save_strategy="no",
        logging_strategy="no",
        eval_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    table = Table.from_dict({"query": [row[0] for row in rows], "document": [row[1] for row in rows]})
    loss: Any = MultipleNegativesRankingLoss(model)
    return SentenceTransformerTrainer(model=model, args=arguments, train_dataset=table, loss=loss)


def compare(
    rows: list[tuple[str, str]], precision: evaluation_pb2.Precision.ValueType, rounds: int
) -> dict[str, float]:
    """Returns the median CPU seconds of an epoch of each."""
    with tempfile.TemporaryDirectory() as scratch:
        one = ours(rows, Path(scratch, "blobs"), precision)
        other = theirs(rows, Path(scratch, "theirs"), bf16=precision == evaluation_pb2.PRECISION_BF16)
        epochs = iter(range(1, 1_000))
        return race({"ours": lambda: one.train_epoch(next(epochs)), "peer": other.train}, rounds)


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    rows = pairs(options.pairs)
    found = []
    for name, precision in (("fp32", evaluation_pb2.PRECISION_FP32), ("bf16", evaluation_pb2.PRECISION_BF16)):
        seconds = compare(rows, precision, options.rounds)
        rates = {key: options.pairs / value for key, value in seconds.items()}
        print(f"{name}: ours {rates['ours']:.0f} pairs per CPU second, sentence-transformers {rates['peer']:.0f}")
        what = f"CPU seconds of an epoch of {options.pairs} pairs, {name}"
        found.append(faster(what, seconds["ours"], seconds["peer"], 1.0))
    report("training", found, {"torch": torch.__version__, "batch_size": BATCH_SIZE})


if __name__ == "__main__":
    main()
