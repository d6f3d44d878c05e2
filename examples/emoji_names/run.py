"""Teaches an English model to find emoji by their German, Spanish, French, Italian and Portuguese names.

    python examples/emoji_names/run.py

Fine-tunes all-MiniLM-L6-v2 on pairs of foreign and English names. The evaluator measures retrieval after every epoch:
800 names of concepts that are not in the training set search the English names of all 1,654 concepts in Qdrant. These
metrics decide which epoch is kept and when to stop.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import data

import tunevane
from tunevane import local
from tunevane.callback import BestModelCheckpoint, EarlyStopping, EvaluationCallback, WandBLogger
from tunevane.client import display
from tunevane.errors import TunevaneError

MONITOR = "reciprocal_rank"


def parse() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description="Fine-tunes on emoji names and shows what came of it.")
    parser.add_argument("--pairs", type=int, default=3000, help="training pairs (%(default)s)")
    parser.add_argument("--epochs", type=int, default=5, help="passes over them, at most (%(default)s)")
    parser.add_argument("--layers", type=int, help="keep only the first layers of the model, for a quick look")
    parser.add_argument("--seed", type=int, default=0, help="seed of data and training (%(default)s)")
    parser.add_argument("--artifacts", type=Path, default=Path("artifacts"), help="where the model goes (%(default)s)")
    return parser.parse_args()


def start(arguments: argparse.Namespace, folder: Path, progress: Callable[[int, int], None]) -> tunevane.Run:
    """Writes the data and starts the run."""
    data.write(data.build(pairs=arguments.pairs, seed=arguments.seed), folder)
    options: dict[str, object] = {"max_seq_length": 32}
    if arguments.layers is not None:
        options["layers"] = arguments.layers
    return tunevane.fit(
        model="minilm",
        model_options=options,
        train_data=folder / "train.csv",
        epochs=arguments.epochs,
        batch_size=64,
        learning_rate=2e-4,
        loss="multiple-negatives-ranking",
        loss_options={"temperature": 0.05},
        precision="bf16",
        seed=arguments.seed,
        description="emoji names in five languages to English",
        callbacks=[
            EvaluationCallback(
                query_data=folder / "queries.csv", index_data=folder / "index.csv", limit=10, gather_examples=True
            ),
            BestModelCheckpoint(monitor=MONITOR),
            EarlyStopping(monitor=MONITOR, patience=1, min_delta=0.002),
            WandBLogger(),
        ],
        progress=progress,
    )


def main() -> int:
    """Runs the example; returns the exit code."""
    arguments = parse()
    try:
        stack = local.ensure()
        with tempfile.TemporaryDirectory() as folder, display.transfer("Uploading the data") as progress:
            run = start(arguments, Path(folder), progress)
        print(f"Run '{run.name}' · watch it live at {stack.pages}/runs/{run.name}")
        try:
            status = run.watch()
        except KeyboardInterrupt:
            print(
                f"\nThe run goes on; watch it: tunevane runs watch {run.name}, stop it: tunevane runs cancel {run.name}"
            )
            return 130
        if status != "SUCCEEDED":
            print(f"The run ended as {status}: {run.failure_reason}", file=sys.stderr)
            return 1
        print()
        run.display_metrics()
        run.display_examples(k=3)
        run.display_decisions()
        with display.transfer("Downloading the artifact") as progress:
            folder = run.save_artifact(arguments.artifacts, progress)
    except TunevaneError as error:
        print(f"tunevane: {error}", file=sys.stderr)
        return 1
    print(f"""
Artifact   {folder}  (loads with SentenceTransformer)
Run page   {stack.pages}/runs/{run.name}
All runs   {stack.pages}/runs
Metrics    {stack.pages}/metrics  (for Prometheus)
The services sleep after ten minutes without use; `tunevane serve local` keeps them awake.""")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
