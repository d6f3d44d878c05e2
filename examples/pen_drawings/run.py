"""Teaches a model of photographs to find the coloured picture that belongs to a pen drawing.

    python examples/pen_drawings/run.py

EfficientNet-Lite0, trained on ImageNet, learns pairs of drawing and picture. Drawings of emoji whose concepts are not
in the training set search the pictures of all of them.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import following
import openmoji

SIZE = 64


def write(folder: Path, small: bool) -> str:
    """Writes pictures and tables, and says how many."""
    everything = openmoji.pictures()[:: 20 if small else 1]
    train, unseen = openmoji.split(everything)
    for name in ("pen", "colour"):
        (folder / name).mkdir(exist_ok=True)
        for each in everything:
            openmoji.draw(each, folder / name / each.file, SIZE, pen=name == "pen")
    tables = {
        "train.csv": [("query", "document"), *((f"pen/{each.file}", f"colour/{each.file}") for each in train)],
        "queries.csv": [("query", "label"), *((f"pen/{each.file}", each.name) for each in unseen)],
        "index.csv": [("document", "label"), *((f"colour/{each.file}", each.name) for each in everything)],
    }
    for name, rows in tables.items():
        with (folder / name).open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(rows)
    return (
        f"{len(train)} pairs to learn, {len(unseen)} drawings of other concepts, {len(everything)} pictures to search"
    )


if __name__ == "__main__":
    raise SystemExit(following.main(__file__, str(__doc__).partition("\n")[0], write, {"epochs": 1}))
