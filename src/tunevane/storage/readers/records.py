"""Understands records: mappings with named fields."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import SupportsIndex

from tunevane.core.dataset import Content
from tunevane.storage.readers.images import Images
from tunevane.storage.readers.place import Source, shown
from tunevane.storage.readers.row import Row

_TEXTS = ("text", "content", "query", "document")
_IMAGES = ("image", "img", "picture", "blob", "tensor", "bytes_", "uri", "url")
_CONTENTS = (*_TEXTS, *_IMAGES)
_PAIR_FIELDS = frozenset({"query", "document", "score"})
_ITEM_FIELDS = frozenset({"id", "label", "relevant", *_CONTENTS})

_Record = dict[str, object]


def rows(numbered: Iterable[tuple[int, object]], source: Source, images: Images) -> Iterator[Row]:
    """Understands records and their numbers.

    A record has `query`, `document` and optionally `score`; or a content and optionally `id`, `label` and `relevant`,
    which is a mapping of document ids to grades. A content is a text (`text`, `content`, `query` or `document`), an
    image (`image` and its like), or both in one record. Either of a pair may be an image, or a mapping with `text` and
    `image`. A field that is None is as good as absent.

    Raises:
        DataFormatError: A record does not fit; the sentence names its number.

    """
    shape: tuple[int, str] | None = None
    for number, value in numbered:
        record = _fields(number, value, source)
        found = _shape(record)
        if shape is None:
            shape = (number, found)
        elif found != shape[1]:
            source.refuse(number, f"has {found} where {source.unit} {shape[0]} has {shape[1]}")
        if _is_pair(record):
            yield _pair(number, record, source, images)
        else:
            yield _single(number, record, source, images)
    if shape is None:
        source.refuse_empty()


def _is_pair(record: _Record) -> bool:
    return "query" in record and "document" in record


def _shape(record: _Record) -> str:
    if _is_pair(record):
        return "a pair with a score" if "score" in record else "a pair without a score"
    return "a single content"


def _fields(number: int, record: object, source: Source) -> _Record:
    if not isinstance(record, Mapping):
        source.refuse(number, f"is {shown(record)}, not a record with named fields such as 'text'")
    fields = {str(name): value for name, value in record.items() if value is not None}
    known = _PAIR_FIELDS if _is_pair(fields) else _ITEM_FIELDS
    unknown = next((name for name in fields if name not in known), None)
    if unknown is not None:
        what = "a pair has" if _is_pair(fields) else "known are"
        source.refuse(number, f"has the field {shown(unknown)}; {what} {', '.join(sorted(known))}")
    if not any(name in fields for name in _CONTENTS):
        source.refuse(number, "has no content; give 'text', 'image', or 'query' and 'document'")
    return fields


def _pair(number: int, record: _Record, source: Source, images: Images) -> Row:
    first, second = (_side(number, record[name], source, images) for name in ("query", "document"))
    score = source.number(number, record["score"], "score") if "score" in record else None
    return Row(number, first, second, score)


def _side(number: int, value: object, source: Source, images: Images) -> Content:
    """Understands one of a pair."""
    if isinstance(value, Mapping) and not value.keys() <= {"bytes", "path"}:
        unknown = next((name for name in value if name not in ("text", "image")), None)
        if unknown is not None:
            source.refuse(number, f"has the field {shown(unknown)} in one of a pair; known are text, image")
        return _content(number, {name: each for name, each in value.items() if each is not None}, source, images)
    return _either(number, value, source, images)


def _either(number: int, value: object, source: Source, images: Images) -> Content:
    """Understands a value that is a text or an image."""
    if not isinstance(value, str):
        if isinstance(value, int | float | list | tuple):
            source.refuse(number, f"has {shown(value)} where a text or an image is needed")
        return Content(image=images.add(source, number, value))
    if images.is_reference(value):
        return Content(image=images.add(source, number, value))
    return Content(source.text(number, value))


def _content(number: int, record: _Record, source: Source, images: Images) -> Content:
    texts = [name for name in _TEXTS if name in record]
    pictures = [name for name in _IMAGES if name in record]
    for several in (texts, pictures):
        if len(several) > 1:
            source.refuse(number, f"has the two contents '{several[0]}' and '{several[1]}'; give one of them")
    if not texts and not pictures:
        source.refuse(number, "has an empty content; give text, image, or both")
    content = Content()
    if texts:
        value = record[texts[0]]
        # 'text' says what it is; the other names leave it open.
        is_text = texts[0] == "text" or pictures
        content = Content(source.text(number, value)) if is_text else _either(number, value, source, images)
    if pictures:
        return Content(content.text, images.add(source, number, record[pictures[0]]))
    return content


def _single(number: int, record: _Record, source: Source, images: Images) -> Row:
    return Row(
        number,
        _content(number, record, source, images),
        id=_id(number, record["id"], source) if "id" in record else "",
        label=source.label(number, record["label"]) if "label" in record else None,
        relevant=_grades(number, record["relevant"], source) if "relevant" in record else {},
    )


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
