"""Makes data sets of records: mappings with named fields."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import SupportsIndex

from tunevane.core import dataset
from tunevane.core.dataset import Dataset, Item
from tunevane.storage.readers.place import Source, shown

_CONTENTS = ("text", "content", "query", "document")
_PAIR_FIELDS = frozenset({"query", "document", "score"})
_ITEM_FIELDS = frozenset({"id", "label", "relevant", *_CONTENTS})
_IMAGES = frozenset({"image", "images", "img", "picture", "blob", "tensor", "uri", "url"})

_Record = dict[str, object]


def from_records(numbered: Iterable[tuple[int, object]], source: Source) -> Dataset:
    """Makes a data set of records and their numbers.

    A record has `query`, `document` and optionally `score`; or one content (`text`, `content`, `query` or `document`)
    and optionally `id`, `label` and `relevant`, which is a mapping of document ids to grades. A field that is None
    is as good as absent.

    Raises:
        DataFormatError: A record does not fit; the sentence names its number.

    """
    records = [(number, _fields(number, record, source)) for number, record in numbered]
    if not records:
        source.refuse_empty()
    first_number, first = records[0]
    shape = _shape(first)
    for number, record in records:
        if _shape(record) != shape:
            source.refuse(number, f"has {_shape(record)} where {source.unit} {first_number} has {shape}")
    if "query" in first and "document" in first:
        return _paired(records, source, scored="score" in first)
    return _single(records, source)


def _fields(number: int, record: object, source: Source) -> _Record:
    if not isinstance(record, Mapping):
        source.refuse(number, f"is {shown(record)}, not a record with named fields such as 'text'")
    fields = {str(name): value for name, value in record.items() if value is not None}
    image = next((name for name in fields if name in _IMAGES), None)
    if image is not None:
        source.refuse(number, f"has an image in the field '{image}'; only text is read, images are not yet")
    is_pair = "query" in fields and "document" in fields
    known = _PAIR_FIELDS if is_pair else _ITEM_FIELDS
    unknown = next((name for name in fields if name not in known), None)
    if unknown is not None:
        what = "a pair has" if is_pair else "known are"
        source.refuse(number, f"has the field {shown(unknown)}; {what} {', '.join(sorted(known))}")
    contents = [name for name in _CONTENTS if name in fields]
    if not contents:
        source.refuse(number, "has no content; give 'text', or 'query' and 'document'")
    if len(contents) > 1 and not is_pair:
        source.refuse(number, f"has the two contents '{contents[0]}' and '{contents[1]}'; give one of them")
    return fields


def _shape(record: _Record) -> str:
    if "query" in record and "document" in record:
        return "a pair with a score" if "score" in record else "a pair without a score"
    return "a single content"


def _paired(records: list[tuple[int, _Record]], source: Source, *, scored: bool) -> Dataset:
    pairs = [(source.text(n, record["query"]), source.text(n, record["document"])) for n, record in records]
    if not scored:
        return dataset.from_pairs(pairs)
    scores = [source.number(n, record["score"], "score") for n, record in records]
    return dataset.from_scored((first, second, score) for (first, second), score in zip(pairs, scores, strict=True))


def _single(records: list[tuple[int, _Record]], source: Source) -> Dataset:
    items = []
    numbers: dict[str, int] = {}
    for number, record in records:
        item = _item(number, record, source)
        if item.id and numbers.setdefault(item.id, number) != number:
            source.refuse(number, f"has the id {shown(item.id)} of {source.unit} {numbers[item.id]}; ids are unique")
        items.append(item)
    return dataset.from_items(items)


def _item(number: int, record: _Record, source: Source) -> Item:
    text = source.text(number, next(record[name] for name in _CONTENTS if name in record))
    label = source.label(number, record["label"]) if "label" in record else None
    grades = _grades(number, record["relevant"], source) if "relevant" in record else {}
    return Item(_id(number, record["id"], source) if "id" in record else "", text, label=label, relevant=grades)


def _id(number: int, value: object, source: Source) -> str:
    if isinstance(value, bool) or not isinstance(value, str | SupportsIndex):
        source.refuse(number, f"has the id {shown(value)}; an id is a text or a whole number")
    name = str(value)
    if not name:
        source.refuse(number, "has an empty id; leave the field out to get one made up")
    source.check_characters(number, name)
    return name


def _grades(number: int, value: object, source: Source) -> dict[str, float]:
    if not isinstance(value, Mapping):
        source.refuse(number, f"has {shown(value)} as 'relevant', which is a mapping of document ids to grades")
    grades: dict[str, float] = {}
    for key, grade in value.items():
        if grade is None:  # a table of structs has every document in every row
            continue
        name = _id(number, key, source)
        grades[name] = source.number(number, grade, "grade")
        if grades[name] < 0:
            source.refuse(number, f"has the grade {shown(grade)} for {shown(name)}; grades are 0 or larger")
    return grades
