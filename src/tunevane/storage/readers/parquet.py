"""Reads Parquet files in batches of rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tunevane.errors import DataFormatError

BATCH_ROWS = 512


def rows(path: Path) -> Iterator[tuple[int, object]]:
    """Lists number and record of every row.

    Raises:
        DataFormatError: It is no Parquet file, or pyarrow is not installed.

    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise DataFormatError(
            f"{path} is a Parquet file, and pyarrow, which reads it, is not installed; run: pip install pyarrow"
        ) from None
    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=BATCH_ROWS):
                for record in batch.to_pylist():
                    number += 1
                    yield number, record
    except (pyarrow.ArrowException, OSError) as error:
        raise DataFormatError(f"{path} cannot be read as Parquet after row {number}: {error}") from error
