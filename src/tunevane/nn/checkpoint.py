"""Weights as bundles: one safetensors blob per group of tensors, so that only what changed is new.

Tensors are written straight from their memory, in the order of the state dict, so the same weights always give
the same digests. Nothing is ever pickled.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping

import torch
from blake3 import blake3
from safetensors import SafetensorError
from safetensors.torch import load_file

from tunevane.api.type.v1 import blob_pb2
from tunevane.core import bundles
from tunevane.errors import InvalidRequestError, PreconditionError
from tunevane.nn.snapshot import Place, place_of
from tunevane.storage.blobs import BlobStore

MAX_HEADER_BYTES = 16 << 20
ALIASES = "aliases.json"

_DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def group_of(name: str) -> str:
    """Names the group of a tensor: everything up to its layer number, else its first three parts."""
    parts = name.split(".")
    for position, part in enumerate(parts[1:-1], start=1):
        if part.isdigit():
            return ".".join(parts[: position + 1])
    return ".".join(parts[: min(3, max(len(parts) - 1, 1))])


def save(
    tensors: Mapping[str, torch.Tensor], store: BlobStore, extra: Mapping[str, bytes] | None = None
) -> blob_pb2.Bundle:
    """Stores tensors by name.

    Args:
        tensors: A state dict. Tensors that share their memory are stored once.
        store: Where the blobs go.
        extra: Further small files by path.

    Raises:
        InvalidRequestError: A tensor has a type that is not supported.

    """
    groups: dict[str, dict[str, torch.Tensor]] = {}
    aliases: dict[str, str] = {}
    owner_of: dict[Place, str] = {}
    for name, tensor in tensors.items():
        if tensor.dtype not in _DTYPES:
            raise InvalidRequestError(f"tensor '{name}' has the type {tensor.dtype}, which checkpoints do not hold")
        place = place_of(tensor)
        owner = owner_of.setdefault(place, name) if tensor.numel() else name
        if owner != name:
            aliases[name] = owner
        else:
            groups.setdefault(group_of(name), {})[name] = tensor
    files = {f"{group}.safetensors": _put(members, store) for group, members in groups.items()}
    if aliases:
        files[ALIASES] = store.put_bytes(json.dumps(aliases, sort_keys=True).encode())
    for path, data in (extra or {}).items():
        files[path] = store.put_bytes(data)
    return bundles.make(files)


def _put(tensors: Mapping[str, torch.Tensor], store: BlobStore) -> blob_pb2.BlobRef:
    """Stores a group; a group that is stored already is hashed and not written."""
    pieces = list(_pieces(tensors))
    hasher = blake3()
    for piece in pieces:
        hasher.update(piece)
    size = sum(memoryview(piece).nbytes for piece in pieces)
    return store.put_named(blob_pb2.BlobRef(blake3=hasher.hexdigest(), size_bytes=size), pieces)


def _pieces(tensors: Mapping[str, torch.Tensor]) -> Iterator[bytes | memoryview]:
    header: dict[str, object] = {}
    end = 0
    for name, tensor in tensors.items():
        start, end = end, end + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": _DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    yield struct.pack("<Q", len(text)) + text
    for tensor in tensors.values():
        if tensor.numel():
            flat = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
            yield memoryview(flat.numpy())  # type: ignore[arg-type]  # numpy arrays are buffers; Python 3.11 cannot say so


def read(bundle: blob_pb2.Bundle, store: BlobStore) -> dict[str, torch.Tensor]:
    """Returns the tensors of a bundle, memory-mapped.

    Raises:
        InvalidRequestError: A file is not safetensors.
        NotFoundError: A blob is not in the store.

    """
    tensors: dict[str, torch.Tensor] = {}
    aliases: dict[str, str] = {}
    for file in bundle.files:
        if file.path == ALIASES:
            aliases = json.loads(store.read(file.blob))
        elif file.path.endswith(".safetensors"):
            path = store.path(file.blob)
            with path.open("rb") as opened:
                size = struct.unpack("<Q", opened.read(8).ljust(8, b"\xff"))[0]
            if size > min(MAX_HEADER_BYTES, file.blob.size_bytes):
                raise InvalidRequestError(f"'{file.path}' of the checkpoint is no safetensors file")
            try:
                tensors.update(load_file(path))
            except (SafetensorError, ValueError) as error:
                raise InvalidRequestError(f"'{file.path}' of the checkpoint is no safetensors file") from error
    return tensors | {name: tensors[owner] for name, owner in aliases.items() if owner in tensors}


def load(model: torch.nn.Module, bundle: blob_pb2.Bundle, store: BlobStore) -> None:
    """Copies the weights of a bundle into a model, in place.

    Raises:
        PreconditionError: Names or shapes are not those of the model; lists the first ten.

    """
    fill(model, read(bundle, store))


def fill(model: torch.nn.Module, found: Mapping[str, torch.Tensor]) -> None:
    """Copies weights into a model, in place.

    Raises:
        PreconditionError: Names or shapes are not those of the model; lists the first ten.

    """
    wanted = model.state_dict()
    wrong = [f"missing {name}" for name in wanted if name not in found]
    wrong += [f"unexpected {name}" for name in found if name not in wanted]
    wrong += [
        f"{name} is {list(found[name].shape)}, not {list(tensor.shape)}"
        for name, tensor in wanted.items()
        if name in found and found[name].shape != tensor.shape
    ]
    if wrong:
        listing = "; ".join(wrong[:10])
        raise PreconditionError(f"the checkpoint does not fit the model ({len(wrong)} tensors): {listing}")
    with torch.no_grad():
        for name, tensor in wanted.items():
            tensor.copy_(found[name])
