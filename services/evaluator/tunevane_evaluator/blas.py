"""Keeps numpy's matrix products on one thread: theirs are small, and their threads would wait for busy cores."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import ThreadpoolController


@contextmanager
def one_thread() -> Iterator[None]:
    """Lets numpy multiply on the calling thread alone; torch keeps its threads.

    While a model is encoding and an engine is storing, each product of a few milliseconds would otherwise take ten
    times as long, because the threads that share it spin until the last of them got a core.
    """
    controller = ThreadpoolController()
    ours = [library["filepath"] for library in controller.info() if "numpy" in library["filepath"]]
    with controller.select(filepath=ours).limit(limits=1):
        yield
