"""Settings from environment and file: typed, and all problems reported at once.

Precedence: overrides (command line), then `TUNEVANE_<SECTION>_<NAME>`, then the table `[section]` of the
settings file, then the default of the field.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import tomllib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

from tunevane.errors import ConfigurationError, Problem

T = TypeVar("T")

_SECRET_WORDS = ("key", "password", "secret", "token")
"""A setting with such a word in its name is never shown."""

_TRUTH = {
    "1": True,
    "true": True,
    "yes": True,
    "on": True,
    "0": False,
    "false": False,
    "no": False,
    "off": False,
}


def load(
    cls: type[T],
    section: str,
    *,
    environ: Mapping[str, str],
    file: Path | None = None,
    overrides: Mapping[str, object] | None = None,
) -> T:
    """Reads the settings of one service.

    Args:
        cls: A frozen dataclass; a method `problems()` may check its values.
        section: Name of the service, for example `trainer`.
        environ: The environment.
        file: A TOML file with a table per section; None reads none.
        overrides: Values that win; None as a value means not given.

    Raises:
        ConfigurationError: Lists every problem, naming the setting and where it was set.

    """
    hints = typing.get_type_hints(cls)
    known = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]  # T is a dataclass
    found: list[Problem] = []
    raw: dict[str, tuple[object, str]] = {}
    for name, value in _table(file, section, found).items():
        _take(name, value, f"{file}: [{section}] {name}", known, raw, found)
    prefix = f"TUNEVANE_{section.upper()}_"
    for variable, text in sorted(environ.items()):
        if variable.startswith(prefix):
            _take(variable.removeprefix(prefix).lower(), text, variable, known, raw, found)
    for name, given in (overrides or {}).items():
        if given is not None:
            _take(name, given, f"--{name.replace('_', '-')}", known, raw, found)
    values: dict[str, object] = {}
    for name, (value, origin) in raw.items():
        try:
            values[name] = _read(value, hints[name])
        except ValueError as error:
            secret = any(word in name for word in _SECRET_WORDS)
            found.append(Problem(origin, "has a value of the wrong kind" if secret else str(error)))
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]  # T is a dataclass
        needed = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if needed and field.name not in raw:
            found.append(Problem(f"{prefix}{field.name.upper()}", "must be set; it has no default"))
    if found:
        raise ConfigurationError(found)
    made = cls(**values)
    check = getattr(made, "problems", None)
    for problem in check() if check is not None else ():
        origin = raw[problem.field][1] if problem.field in raw else problem.field
        found.append(Problem(origin, problem.message))
    if found:
        raise ConfigurationError(found)
    return made


def _table(file: Path | None, section: str, found: list[Problem]) -> Mapping[str, object]:
    if file is None:
        return {}
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8")).get(section, {})
    except FileNotFoundError:
        found.append(Problem(str(file), "there is no such settings file"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        found.append(Problem(str(file), f"the settings file cannot be read: {error}"))
    else:
        if isinstance(table, Mapping):
            return table
        found.append(Problem(f"{file}: {section}", f"must be a table [{section}], not {table!r}"))
    return {}


def _take(
    name: str,
    value: object,
    origin: str,
    known: list[str],
    raw: dict[str, tuple[object, str]],
    found: list[Problem],
) -> None:
    if name in known:
        raw[name] = (value, origin)
        return
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    found.append(Problem(origin, f"unknown setting; {hint}known are: {', '.join(sorted(known))}"))


def _read(value: object, hint: Any) -> object:  # Any: type hints have no common type
    origin = get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None or (value == "" and type(None) in get_args(hint)):
            return None
        (hint,) = (option for option in get_args(hint) if option is not type(None))
        return _read(value, hint)
    if origin is Literal:
        for choice in get_args(hint):
            if value == choice or value == str(choice):
                return choice
        raise ValueError(f"must be one of {', '.join(map(str, get_args(hint)))}, not {value!r}")
    if origin is tuple:
        items = ([] if not value.strip() else value.split(",")) if isinstance(value, str) else value
        if not isinstance(items, (list, tuple)):
            raise ValueError(f"must be a list, not {value!r}")
        return tuple(_read(item.strip() if isinstance(item, str) else item, get_args(hint)[0]) for item in items)
    if hint is bool:
        truth = value if isinstance(value, bool) else _TRUTH.get(str(value).lower())
        if truth is None:
            raise ValueError(f"must be true or false, not {value!r}")
        return truth
    if hint is Path:
        if not isinstance(value, (str, Path)) or not str(value):
            raise ValueError(f"must be a path, not {value!r}")
        return Path(value).expanduser()
    if hint in (int, float):
        word = "a whole number" if hint is int else "a number"
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            raise ValueError(f"must be {word}, not {value!r}")
        try:
            number = int(str(value)) if hint is int else float(value)
        except ValueError:
            raise ValueError(f"must be {word}, not {value!r}") from None
        if not math.isfinite(number):
            raise ValueError(f"must be {word}, not {value!r}")
        return number
    if not isinstance(value, str):
        raise ValueError(f"must be text, not {value!r}")
    return value
