"""How training ends before its time."""

from __future__ import annotations


class Stopped(Exception):  # noqa: N818  # it is no error
    """The run was asked to stop, or the process was."""
