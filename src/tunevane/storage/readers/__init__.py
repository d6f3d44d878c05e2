"""Readers of what people pass as data: files, records, and the tables of other libraries."""

from tunevane.storage.readers.read import read

__all__ = ["read"]
