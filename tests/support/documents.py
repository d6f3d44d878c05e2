"""docarray's classes; docarray uses what newer releases of pydantic warn about."""

from __future__ import annotations

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from docarray import BaseDoc, DocList
    from docarray.documents import ImageDoc, TextDoc

__all__ = ["BaseDoc", "DocList", "ImageDoc", "TextDoc"]
