"""Programs that pip cannot bring: found, or the test that needs them is skipped with one sentence."""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest


def require(name: str) -> str:
    """Returns the path of a program; without it the test is skipped, or fails where `NO_SKIPS` is set."""
    path = shutil.which(name)
    if path is None:
        absent(f"needs the program '{name}', which is not on PATH")
    return path


def absent(sentence: str) -> NoReturn:
    """Skips the test that needs what is absent, or fails it where `NO_SKIPS` is set."""
    if os.environ.get("NO_SKIPS"):
        pytest.fail(sentence)
    pytest.skip(sentence)
