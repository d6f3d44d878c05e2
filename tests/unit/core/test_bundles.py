"""A bundle has one form, and no path in it leads out of a folder."""

from __future__ import annotations

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from tunevane.api.type.v1 import blob_pb2
from tunevane.core import bundles
from tunevane.errors import InvalidRequestError, NotFoundError


def ref(data: bytes) -> blob_pb2.BlobRef:
    return blob_pb2.BlobRef(blake3=blake3(data).hexdigest(), size_bytes=len(data))


@given(st.dictionaries(st.sampled_from(["a", "b/c", "b/d", "z.json", "é/ü"]), st.binary(max_size=5), min_size=1))
def test_the_order_of_files_does_not_matter(content: dict[str, bytes]) -> None:
    files = {path: ref(data) for path, data in content.items()}
    bundle = bundles.make(files)
    backwards = bundles.make(dict(reversed(files.items())))
    assert bundle == backwards
    assert bundles.digest(bundle) == bundles.digest(backwards)
    assert [file.path for file in bundle.files] == sorted(files)
    assert {path: bundles.get(bundle, path) for path in files} == files
    assert bundles.refs(bundle) == [files[path] for path in sorted(files)]
    assert bundles.total_bytes(bundle) == sum(map(len, content.values()))


def test_other_content_is_another_bundle() -> None:
    digests = {
        bundles.digest(bundles.make(files))
        for files in ({"a": ref(b"1")}, {"a": ref(b"2")}, {"b": ref(b"1")}, {"a": ref(b"1"), "b": ref(b"1")})
    }
    assert len(digests) == 4


@pytest.mark.parametrize(
    "path", ["", "/etc/passwd", "../x", "a/../b", "a//b", "a/", ".", "./a", "a\\b", "C:/x", "a\0", "a\nb", "x" * 1025]
)
def test_paths_that_could_lead_out_are_refused(path: str) -> None:
    with pytest.raises(InvalidRequestError):
        bundles.make({path: ref(b"")})


def test_a_name_cannot_be_file_and_folder() -> None:
    with pytest.raises(InvalidRequestError, match="folder"):
        bundles.make({"a": ref(b"1"), "a/b/c": ref(b"2")})
    bundles.make({"a.b": ref(b"1"), "a/b": ref(b"2"), "ab": ref(b"3")})


def test_bundles_from_elsewhere_are_checked_for_order_and_number() -> None:
    files = [blob_pb2.BundleFile(path=path, blob=ref(b"1")) for path in ("b", "a")]
    for wrong in (files, files[:1] * 2, []):
        with pytest.raises(InvalidRequestError):
            bundles.check(blob_pb2.Bundle(files=wrong))


@pytest.mark.parametrize(
    "wrong",
    [
        blob_pb2.BlobRef(),
        blob_pb2.BlobRef(blake3="0" * 64, size_bytes=-1),
        blob_pb2.BlobRef(blake3="0" * 64, size_bytes=0),
        blob_pb2.BlobRef(blake3=blake3(b"").hexdigest(), size_bytes=1),
        blob_pb2.BlobRef(blake3="F" * 64, size_bytes=1),
    ],
)
def test_references_that_name_nothing_are_refused(wrong: blob_pb2.BlobRef) -> None:
    with pytest.raises(InvalidRequestError):
        bundles.check_ref(wrong)


def test_a_missing_file_is_named() -> None:
    with pytest.raises(NotFoundError, match=r"x\.json"):
        bundles.get(bundles.make({"a": ref(b"")}), "x.json")
