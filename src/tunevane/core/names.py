"""Names of runs and data sets: the rule, and suggestions that people can say aloud."""

from __future__ import annotations

import random
import re

from tunevane.errors import InvalidRequestError, Problem

_RULE = re.compile(r"[a-z][a-z0-9-]{3,62}")

_MOODS = ("brisk", "calm", "clear", "crisp", "fair", "fresh", "gentle", "keen", "light", "quick", "steady", "warm")
_WINDS = (
    "breeze",
    "current",
    "draft",
    "gale",
    "gust",
    "mistral",
    "monsoon",
    "sirocco",
    "trade",
    "vane",
    "west",
    "zephyr",
)


def check(name: str, field: str) -> None:
    """Refuses a name that breaks the rule.

    Raises:
        InvalidRequestError: It does not match `[a-z][a-z0-9-]{3,62}`.

    """
    if not _RULE.fullmatch(name):
        complaint = (
            "must be 4 to 63 lower-case letters, digits and hyphens and begin with a letter, for example"
            f" 'emoji-names-2', not {name[:80]!r}"
        )
        raise InvalidRequestError([Problem(field, complaint)])


def suggest(generator: random.Random) -> str:
    """Makes up a name such as `brisk-vane-4821`."""
    return f"{generator.choice(_MOODS)}-{generator.choice(_WINDS)}-{generator.randrange(1000, 10000)}"
