"""Bundles: the lists of files that make a checkpoint, a data set or an artifact."""

from __future__ import annotations

import re
from collections.abc import Mapping

from blake3 import blake3

from tunevane.api.type.v1 import blob_pb2
from tunevane.errors import InvalidRequestError, NotFoundError

_DIGEST = re.compile(r"[0-9a-f]{64}")
_EMPTY = blake3(b"").hexdigest()
MAX_FILES = 10_000


def check_digest(digest: str) -> None:
    """Refuses a text that is no digest.

    Raises:
        InvalidRequestError: It is not 64 lower-case hexadecimal digits.

    """
    if not _DIGEST.fullmatch(digest):
        raise InvalidRequestError(f"a blob's digest has 64 lower-case hexadecimal digits; this one is {digest[:80]!r}")


def check_ref(ref: blob_pb2.BlobRef) -> None:
    """Refuses a reference that cannot name a blob.

    Raises:
        InvalidRequestError: The digest is not 64 lower-case hexadecimal digits, or the size is negative.

    """
    check_digest(ref.blake3)
    if ref.size_bytes < 0:
        raise InvalidRequestError(f"a blob's size cannot be negative; this one is {ref.size_bytes}")
    if (ref.size_bytes == 0) != (ref.blake3 == _EMPTY):
        raise InvalidRequestError(
            f"only the digest {_EMPTY[:12]}… is of 0 bytes; {ref.blake3[:12]}… of {ref.size_bytes} bytes cannot be"
        )


def check_path(path: str) -> None:
    """Refuses a path that could lead out of the folder it is unpacked into.

    Raises:
        InvalidRequestError: It is absolute, empty, or has `.`, `..`, backslash or control characters.

    """
    parts = path.split("/")
    unsafe = not path.isprintable() or "\\" in path or ":" in parts[0] or len(path) > 1024
    if unsafe or any(part in ("", ".", "..") for part in parts):
        raise InvalidRequestError(f"{path[:80]!r} is no relative path with plain segments")


def check(bundle: blob_pb2.Bundle) -> None:
    """Refuses a bundle that breaks the rules of the contract.

    Raises:
        InvalidRequestError: It has no or too many files, or a bad path, order or reference.

    """
    if not 1 <= len(bundle.files) <= MAX_FILES:
        raise InvalidRequestError(f"a bundle has 1 to {MAX_FILES} files; this one has {len(bundle.files)}")
    previous = ""
    paths = {file.path for file in bundle.files}
    for file in bundle.files:
        check_path(file.path)
        check_ref(file.blob)
        parts = file.path.split("/")
        for length in range(1, len(parts)):
            if "/".join(parts[:length]) in paths:
                raise InvalidRequestError(
                    f"{'/'.join(parts[:length])!r} cannot be a file and a folder of {file.path!r}"
                )
        if file.path <= previous:
            raise InvalidRequestError(f"a bundle's files are sorted and unique; {file.path!r} comes after {previous!r}")
        previous = file.path


def make(files: Mapping[str, blob_pb2.BlobRef]) -> blob_pb2.Bundle:
    """Makes a bundle of files by path."""
    bundle = blob_pb2.Bundle(files=[blob_pb2.BundleFile(path=path, blob=files[path]) for path in sorted(files)])
    check(bundle)
    return bundle


def refs(bundle: blob_pb2.Bundle) -> list[blob_pb2.BlobRef]:
    """Lists the blobs of a bundle, in the order of its files."""
    return [file.blob for file in bundle.files]


def get(bundle: blob_pb2.Bundle, path: str) -> blob_pb2.BlobRef:
    """Returns the blob at a path.

    Raises:
        NotFoundError: The bundle has no such file.

    """
    for file in bundle.files:
        if file.path == path:
            return file.blob
    raise NotFoundError(f"the bundle has no file {path!r}")


def digest(bundle: blob_pb2.Bundle) -> str:
    """Returns the BLAKE3 of a bundle, which names its content."""
    return blake3(bundle.SerializeToString(deterministic=True)).hexdigest()


def total_bytes(bundle: blob_pb2.Bundle) -> int:
    """Adds up the sizes of a bundle's files."""
    return sum(file.blob.size_bytes for file in bundle.files)
