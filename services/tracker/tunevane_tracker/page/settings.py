"""What a run was asked to do, as names and values."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from tunevane_tracker.page.html import escape, foreign, scrolling

SHOWN_ELSEWHERE = frozenset({"name", "description"})
FIRST = ("model", "dataset", "loss", "optimizer", "epochs", "batch_size", "seed")
"""What is shown first, in this order."""

SEPARATOR = " · "
"""Stands between a part and its option."""

LONGEST = 500
"""Characters shown of a value."""


def flat(config: Mapping[str, object]) -> dict[str, str]:
    """Writes a configuration as one text per setting, in its order, for example `early-stopping · patience`."""
    rows: dict[str, str] = {}
    for key, value in config.items():
        if key in SHOWN_ELSEWHERE:
            continue
        if key == "callbacks" and isinstance(value, list):
            for callback in value:
                rows.update(_callback(callback, rows))
        elif isinstance(value, Mapping):
            rows.update(_options(key.removesuffix("_options"), value))
        else:
            rows[key] = _text(value)
    return {name: text for name, text in rows.items() if text}


def differing(configs: Sequence[Mapping[str, str]]) -> list[str]:
    """Names the settings in which flat configurations differ, in the order of the first that has them."""
    names = dict.fromkeys(name for config in configs for name in config)
    return [name for name in names if len({config.get(name) for config in configs}) > 1]


def settings_table(config: Mapping[str, object]) -> str:
    """Shows all settings, the options of a part in one line; nothing while the tracker was not told any."""
    found = flat(config)
    groups: dict[str, list[str]] = {name: [] for name in FIRST if name in found}
    for name, text in found.items():
        group, _, option = name.partition(SEPARATOR)
        shown = f'<span class="soft">{escape(option)}</span> {foreign(text)}' if option else foreign(text)
        groups.setdefault(group, []).append(shown)
    for parts in groups.values():
        # A name that has options needs no "yes".
        if len(parts) > 1 and parts[0] == foreign("yes"):
            del parts[0]
    rows = "".join(
        f'<tr><th scope="row">{foreign(group)}</th><td class="text">{" · ".join(parts)}</td></tr>'
        for group, parts in groups.items()
    )
    if not rows:
        return ""
    head = '<thead><tr><th scope="col">Setting</th><th scope="col" class="text">Value</th></tr></thead>'
    table = f'<table class="settings"><caption class="unseen">Settings</caption>{head}<tbody>{rows}</tbody></table>'
    return scrolling("Settings", table)


def _callback(callback: object, before: Mapping[str, str]) -> dict[str, str]:
    if not isinstance(callback, Mapping):
        return {}
    name, count = str(callback.get("name", "")), 1
    while any(key == name or key.startswith(name + SEPARATOR) for key in before):
        count += 1
        name = f"{callback.get('name', '')} {count}"
    options = callback.get("options")
    return {name: "yes", **(_options(name, options) if isinstance(options, Mapping) else {})}


def _options(name: str, options: Mapping[str, object]) -> dict[str, str]:
    return {name + SEPARATOR + key: _text(value) for key, value in options.items()}


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
