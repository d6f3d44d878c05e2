"""Makes the data of the demo: what five languages call an emoji, and its English name.

    python examples/emoji_names/data.py OUT

writes to the folder OUT

- `train.csv` (query,document): names in German, Spanish, French, Italian and Portuguese with the English name;
- `queries.csv` (query,label): such names of emoji that are not in `train.csv`;
- `index.csv` (document,label): all English names, those of `train.csv` included. They are what is searched.

The names come from the package `emoji` (BSD licence), which has them from Unicode CLDR (Unicode licence). Emoji with
a skin tone and flags are left out: their names hold nothing to learn that others do not, and the names of countries
are much the same in all languages. So are names that are spelled as in English.
"""

from __future__ import annotations

import argparse
import csv
import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import emoji

LANGUAGES = ("de", "es", "fr", "it", "pt")

HELD_OUT = 0.2
"""Share of the concepts that queries are drawn from. More than the queries need: the names of one concept are about
equally hard, so few concepts would make the measurement depend on the seed."""

_LEFT_OUT = re.compile("[\U0001f3fb-\U0001f3ff\U0001f1e6-\U0001f1ff]")
"""Skin tones, and the letters that flags are made of."""

_VARIANT = re.compile("\u200d[\u2640\u2642\u27a1]")
"""A joiner with a gender or a direction."""

_MAN_OR_WOMAN = re.compile("[\U0001f468\U0001f469]")


@dataclass(frozen=True)
class Name:
    """What one language calls one emoji."""

    text: str
    """The name in that language."""

    english: str
    """The English name, which no other emoji has."""

    concept: str
    """What the emoji shows, whichever gender and direction it has."""


@dataclass(frozen=True)
class Task:
    """Training pairs, held-out queries, and the documents that are searched."""

    train: tuple[Name, ...]
    """Pairs to learn from."""

    queries: tuple[Name, ...]
    """Queries about concepts that are not in `train`."""

    documents: tuple[str, ...]
    """All English names, sorted."""


def names(languages: Sequence[str] = LANGUAGES) -> list[Name]:
    """Lists what the languages call the emoji, except where it is spelled as in English."""
    emoji.config.load_language(list(languages))
    return [
        Name(_plain(data[language]), _plain(data["en"]), concept(symbol))
        for symbol, data in emoji.EMOJI_DATA.items()
        if data["status"] == emoji.STATUS["fully_qualified"] and not is_left_out(symbol)
        for language in languages
        if language in data and _letters(_plain(data[language])) != _letters(_plain(data["en"]))
    ]


def is_left_out(symbol: str) -> bool:
    """Tells whether an emoji is a flag or has a skin tone."""
    return _LEFT_OUT.search(symbol) is not None


def _plain(name: str) -> str:
    return name.strip(":").replace("_", " ")


def _letters(name: str) -> str:
    return name.lower().replace("-", " ")


def concept(symbol: str) -> str:
    """Drops gender, direction, joiners and variation selectors: whoever cooks, it is one concept."""
    bare = _VARIANT.sub("", symbol.replace("\ufe0f", ""))
    if "\u200d" in bare:  # a man alone is not the same as a woman alone, but a cook is a cook
        bare = _MAN_OR_WOMAN.sub("\U0001f9d1", bare)
    return bare.replace("\u200d", "")


def build(pairs: int = 6000, queries: int = 800, seed: int = 0, languages: Sequence[str] = LANGUAGES) -> Task:
    """Splits the names by concept.

    Args:
        pairs: Number of training pairs.
        queries: Number of held-out queries.
        seed: Of the split and of the choice.
        languages: Codes of the languages besides English.

    Raises:
        ValueError: There are not as many names as asked for.

    """
    generator = random.Random(seed)
    everything = names(languages)
    # Languages share words; a pair that two of them have is one pair.
    distinct = list({(name.text, name.english): name for name in everything}.values())
    concepts = sorted({name.concept for name in distinct})
    generator.shuffle(concepts)
    names_of: dict[str, list[Name]] = {}
    for name in distinct:
        names_of.setdefault(name.concept, []).append(name)
    border = round(len(concepts) * HELD_OUT)
    held_out = [name for one in concepts[:border] for name in names_of[one]]
    kept = [name for one in concepts[border:] for name in names_of[one]]
    if not (0 < queries <= len(held_out) and 0 < pairs <= len(kept)):
        raise ValueError(
            f"for {', '.join(languages)} there are 1 to {len(kept)} pairs and 1 to {len(held_out)} queries,"
            f" not {pairs} and {queries}"
        )
    chosen = tuple(generator.sample(held_out, queries))  # first, so that they do not depend on the number of pairs
    return Task(
        train=tuple(generator.sample(kept, pairs)),
        queries=chosen,
        documents=tuple(sorted({name.english for name in everything})),
    )


def write(task: Task, folder: Path) -> None:
    """Writes the three CSV files."""
    folder.mkdir(parents=True, exist_ok=True)
    _write_csv(folder / "train.csv", ("query", "document"), ((name.text, name.english) for name in task.train))
    _write_csv(folder / "queries.csv", ("query", "label"), ((name.text, name.english) for name in task.queries))
    _write_csv(folder / "index.csv", ("document", "label"), ((text, text) for text in task.documents))


def _write_csv(path: Path, header: tuple[str, str], rows: Iterable[tuple[str, str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def main() -> None:
    """Reads the command line and writes the files."""
    parser = argparse.ArgumentParser(description="Writes train.csv, queries.csv and index.csv of the emoji demo.")
    parser.add_argument("out", type=Path, metavar="OUT", help="the folder to write to")
    parser.add_argument("--pairs", type=int, default=6000, help="number of training pairs (%(default)s)")
    parser.add_argument("--queries", type=int, default=800, help="number of held-out queries (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the split (%(default)s)")
    parser.add_argument("--languages", nargs="+", choices=LANGUAGES, default=LANGUAGES, help="besides English (all)")
    options = parser.parse_args()
    try:
        task = build(options.pairs, options.queries, options.seed, options.languages)
    except ValueError as error:
        parser.error(str(error))
    write(task, options.out)
    print(
        f"{options.out}: {len(task.train)} training pairs, {len(task.queries)} queries about other emoji,"
        f" {len(task.documents)} documents"
    )


if __name__ == "__main__":
    main()
