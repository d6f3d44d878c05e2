"""Other ways to search the same embeddings: `hnsw:m=16,ef=64`, `int8`, `dims=128`, `distance=euclidean`, or several.

A production index is rarely exact, so a plan can ask what its settings do to the model's metrics. Settings are
written as words; those that belong together are joined by `+`, as in `dims=128+hnsw:m=16,ef=64+int8`:

* `distance=D`: compare by `cosine`, `dot`, `euclidean` or `sqeuclidean`;
* `dims=N`: only the first N numbers of each vector (Matryoshka);
* `hnsw:m=M,ef_construct=C,ef=E`: a graph index (Malkov and Yashunin, 2016); 16, 100 and `ef_construct` if left out;
* `int8:oversampling=X,rescore=yes`, `binary:...`: quantized vectors; X times as many candidates are rescored with the
  full vectors, 2 if left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from tunevane.errors import InvalidRequestError

Distance = Literal["cosine", "dot", "euclidean", "sqeuclidean"]
QuantizationKind = Literal["int8", "binary"]

MAX_SETTINGS = 16
"""Settings that one evaluation may ask for: each is a search of its own."""

_WHOLE = re.compile(r"[0-9]{1,9}")
_DECIMAL = re.compile(r"[0-9]{1,4}(\.[0-9]{1,4})?")


@dataclass(frozen=True)
class Hnsw:
    """A graph index; names and defaults are Qdrant's."""

    m: int = 16
    """Edges per node, in [4, 256]."""

    ef_construct: int = 100
    """Candidates looked at while building, in [4, 4096]."""

    ef: int | None = None
    """Candidates looked at while searching, in [1, 100000]; None: `ef_construct`."""

    def __str__(self) -> str:
        """Returns the canonical form."""
        built = "" if self.ef_construct == 100 else f",ef_construct={self.ef_construct}"
        return f"hnsw:m={self.m}{built}" + ("" if self.ef is None else f",ef={self.ef}")


@dataclass(frozen=True)
class Quantization:
    """Vectors stored with fewer bits."""

    kind: QuantizationKind
    """One byte or one bit per number."""

    oversampling: float = 2.0
    """Candidates per result that are rescored, in [1, 100]."""

    rescore: bool = True
    """Whether candidates are put in order by the full vectors."""

    def __str__(self) -> str:
        """Returns the canonical form."""
        options = [] if self.oversampling == 2.0 else [f"oversampling={self.oversampling:g}"]
        options += [] if self.rescore else ["rescore=no"]
        return self.kind + (":" if options else "") + ",".join(options)


@dataclass(frozen=True)
class SearchSettings:
    """How vectors are compared and found; what is None is as in the plan's own exact search."""

    distance: Distance | None = None
    """How two vectors are compared."""

    dimensions: int | None = None
    """How many of the first numbers of each vector are used."""

    hnsw: Hnsw | None = None
    """The graph index; None compares every pair."""

    quantization: Quantization | None = None
    """Fewer bits per number; None keeps float32."""

    @property
    def name(self) -> str:
        """Returns the canonical form, which `parse` reads: equal settings have equal names."""
        parts = [
            "" if self.distance is None else f"distance={self.distance}",
            "" if self.dimensions is None else f"dims={self.dimensions}",
            *("" if each is None else str(each) for each in (self.hnsw, self.quantization)),
        ]
        return "+".join(part for part in parts if part)

    @property
    def is_exact(self) -> bool:
        """Tells whether every pair is compared with full numbers, so that nothing can be missed."""
        return self.hnsw is None and self.quantization is None


def parse(text: str) -> SearchSettings:
    """Reads settings; see the module for how they are written.

    Raises:
        InvalidRequestError: A word is unknown, given twice, or has a value outside its range.

    """
    found: dict[str, str] = {}
    for part in text.split("+"):
        word = re.split("[:=]", part.strip(), maxsplit=1)[0]
        kind = "quantization" if word in get_args(QuantizationKind) else word
        if kind not in ("distance", "dims", "hnsw", "quantization"):
            raise InvalidRequestError(
                f"'{text}' has the unknown part '{part}'; there are distance=cosine, dims=128, hnsw:m=16,ef=64, int8"
                " and binary, joined by '+'"
            )
        if kind in found:
            raise InvalidRequestError(f"'{text}' gives {kind} twice; write two settings instead")
        found[kind] = part.strip()
    return SearchSettings(
        distance=_distance(found["distance"]) if "distance" in found else None,
        dimensions=_dimensions(found["dims"]) if "dims" in found else None,
        hnsw=_hnsw(found["hnsw"]) if "hnsw" in found else None,
        quantization=_quantization(found["quantization"]) if "quantization" in found else None,
    )


def parse_all(texts: Iterable[str]) -> tuple[SearchSettings, ...]:
    """Reads several settings, each of which may be given once.

    Raises:
        InvalidRequestError: One cannot be read, two mean the same, or there are too many.

    """
    if isinstance(texts, str):
        raise InvalidRequestError(f"search must be a list of settings, got the string '{texts}'; write ['{texts}']")
    given = list(texts)
    if len(given) > MAX_SETTINGS:
        raise InvalidRequestError(f"{len(given)} search settings were given; at most {MAX_SETTINGS} are measured")
    by_name: dict[str, SearchSettings] = {}
    for text in given:
        settings = parse(text)
        if settings.name in by_name:
            raise InvalidRequestError(f"the search settings '{settings.name}' are given twice")
        by_name[settings.name] = settings
    return tuple(by_name.values())


def metric_name(metric: str, settings: str) -> str:
    """Names a metric under settings, given by their canonical name: `ndcg@10[dims=128]`."""
    return f"{metric}[{settings}]"


def _distance(part: str) -> Distance:
    value = part.partition("=")[2]
    for known in get_args(Distance):
        if value == known:
            return known  # type: ignore[no-any-return]  # get_args is not typed by its argument
    raise InvalidRequestError(f"'{part}' is no distance; there are {', '.join(get_args(Distance))}")


def _dimensions(part: str) -> int:
    return _whole(part, part.partition("=")[2], 1, 65536)


def _hnsw(part: str) -> Hnsw:
    options = _options(part, ("m", "ef_construct", "ef"))
    return Hnsw(
        m=_whole(part, options.get("m", "16"), 4, 256),
        ef_construct=_whole(part, options.get("ef_construct", "100"), 4, 4096),
        ef=_whole(part, options["ef"], 1, 100_000) if "ef" in options else None,
    )


def _quantization(part: str) -> Quantization:
    options = _options(part, ("oversampling", "rescore"))
    oversampling = options.get("oversampling", "2")
    if not _DECIMAL.fullmatch(oversampling) or not 1 <= float(oversampling) <= 100:
        raise InvalidRequestError(f"'{part}' needs an oversampling in [1, 100], not '{oversampling}'")
    rescore = options.get("rescore", "yes")
    if rescore not in ("yes", "no"):
        raise InvalidRequestError(f"'{part}' needs rescore=yes or rescore=no, not '{rescore}'")
    kind: QuantizationKind = "int8" if part.startswith("int8") else "binary"
    return Quantization(kind, float(oversampling), rescore == "yes")


def _options(part: str, known: tuple[str, ...]) -> Mapping[str, str]:
    """Reads `word:name=value,name=value`."""
    word, colon, rest = part.partition(":")
    options: dict[str, str] = {}
    for option in rest.split(",") if colon else []:
        name, _, value = (each.strip() for each in option.partition("="))
        if name not in known or name in options:
            raise InvalidRequestError(
                f"'{part}' has the {'repeated' if name in options else 'unknown'} option '{option}'; {word} takes"
                f" {', '.join(known)}"
            )
        options[name] = value
    if "=" in word:
        raise InvalidRequestError(f"'{part}' needs its options after a colon, for example hnsw:m=16")
    return options


def _whole(part: str, value: str, least: int, most: int) -> int:
    if not _WHOLE.fullmatch(value) or not least <= int(value) <= most:
        raise InvalidRequestError(f"'{part}' needs a whole number in [{least}, {most}], not '{value}'")
    return int(value)
