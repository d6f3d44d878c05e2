"""Reads the sentences that stand under the fields of a dataclass, so that each is written once."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import textwrap


def field_docs(cls: type) -> dict[str, str]:
    """Returns the sentence under each field of a dataclass, by field name; its parents' fields included.

    Fields without one, and classes whose source is not at hand, are left out.
    """
    found: dict[str, str] = {}
    for each in reversed(cls.__mro__):
        if dataclasses.is_dataclass(each):
            found |= _own(each)
    return found


def _own(cls: type) -> dict[str, str]:
    try:
        (node,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    except (OSError, TypeError, SyntaxError, ValueError):
        return {}
    if not isinstance(node, ast.ClassDef):
        return {}
    found: dict[str, str] = {}
    for field, below in zip(node.body, node.body[1:], strict=False):
        if not isinstance(field, ast.AnnAssign) or not isinstance(field.target, ast.Name):
            continue
        if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant) and isinstance(below.value.value, str):
            found[field.target.id] = inspect.cleandoc(below.value.value).replace("\n", " ")
    return found


def summary(cls: type) -> str:
    """Returns the first paragraph of a class's docstring, on one line."""
    return inspect.cleandoc(cls.__doc__ or "").partition("\n\n")[0].replace("\n", " ")


def schema(cls: type) -> dict[str, object]:
    """Describes a dataclass as a JSON Schema object whose properties carry their sentences."""
    from tunevane.core import specs

    described: dict[str, object] = specs.schema(cls)
    properties = described["properties"]
    assert isinstance(properties, dict)
    for name, sentence in field_docs(cls).items():
        if name in properties:
            properties[name] = properties[name] | {"description": sentence}
    return described
