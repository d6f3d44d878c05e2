"""Teaches a model of English sentences and one of photographs one space, so that a name finds its picture.

    python examples/picture_names/run.py

all-MiniLM-L6-v2 and EfficientNet-Lite0 get linear heads of 128 dimensions and learn pairs of name and picture. Names of
emoji whose concepts are not in the training set search the pictures of those.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import following
import openmoji

SIZE = 96


def write(folder: Path, small: bool) -> str:
    """Writes pictures and tables, and says how many."""
    everything = openmoji.pictures()[:: 20 if small else 1]
    train, unseen = openmoji.split(everything)
    (folder / "colour").mkdir(exist_ok=True)
    for each in everything:
        openmoji.draw(each, folder / "colour" / each.file, SIZE)
    tables = {
        "train.csv": [("query", "document"), *((each.name, f"colour/{each.file}") for each in train)],
        "queries.csv": [("query", "label"), *((each.name, each.name) for each in unseen)],
        "index.csv": [("document", "label"), *((f"colour/{each.file}", each.name) for each in unseen)],
    }
    for name, rows in tables.items():
        with (folder / name).open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(rows)
    return f"{len(train)} pairs to learn; {len(unseen)} names of other concepts and as many pictures to search"


if __name__ == "__main__":
    raise SystemExit(following.main(__file__, str(__doc__).partition("\n")[0], write, {"epochs": 1}))
