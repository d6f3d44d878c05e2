"""Teaches a small network with random weights which pictures of digits belong together.

    python examples/digits/run.py

A ResNet learns from 1,000 pictures with labels; 797 others search each other, and those of one digit should come first.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import following

SIZE = 32
TRAIN = 1000


def write(folder: Path, small: bool) -> str:
    """Writes pictures, tables and the network, and says how many."""
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    count = 500 if small else len(digits.images)
    border = 300 if small else TRAIN
    (folder / "pictures").mkdir(exist_ok=True)
    for number, pixels in enumerate(digits.images[:count]):
        grey = Image.fromarray((255 - pixels * 255 / 16).astype(np.uint8))
        grey.resize((SIZE, SIZE), Image.Resampling.BILINEAR).convert("RGB").save(folder / "pictures" / f"{number}.png")
    rows = [(f"pictures/{number}.png", int(digit)) for number, digit in enumerate(digits.target[:count])]
    for name, some in (("train.csv", rows[:border]), ("test.csv", rows[border:])):
        with (folder / name).open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("document", "label"), *some])
    network(folder / "network")
    return f"{border} pictures to learn, {count - border} others to search"


def network(folder: Path) -> None:
    """Saves a ResNet of three stages with random weights, as transformers does."""
    import torch
    from transformers import ResNetConfig, ResNetModel
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    torch.manual_seed(0)
    config = ResNetConfig(embedding_size=16, hidden_sizes=[16, 32, 64], depths=[1, 1, 1], layer_type="basic")
    ResNetModel(config).save_pretrained(folder)
    ViTImageProcessorPil(size={"height": SIZE, "width": SIZE}).save_pretrained(folder)


if __name__ == "__main__":
    raise SystemExit(following.main(__file__, str(__doc__).partition("\n")[0], write, {"epochs": 2}))
