"""Copies of tensors that training goes on changing, taken without waiting for a disk or a network."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass

import torch

Place = tuple[object, ...]


def place_of(tensor: torch.Tensor) -> Place:
    """Tells where a tensor's elements are; two with one place are one tensor under two names."""
    return (tensor.data_ptr(), tuple(tensor.shape), tuple(tensor.stride()), tensor.dtype)


@dataclass(frozen=True)
class Snapshot:
    """Tensors as they were at one moment, in memory of the CPU."""

    tensors: Mapping[str, torch.Tensor]
    """By name, in the order of the source; names that shared memory there share it here."""

    _ready: torch.cuda.Event | None
    """Passes once copies from the device are complete; None where they are."""

    def wait(self) -> Mapping[str, torch.Tensor]:
        """Returns the tensors once they are complete."""
        if self._ready is not None:
            self._ready.synchronize()
        return self.tensors


class Snapshots:
    """Takes snapshots into memory that is used again once a snapshot is given back. Threads may share it."""

    def __init__(self) -> None:
        self._free: list[dict[str, torch.Tensor]] = []
        self._lock = threading.Lock()

    def take(self, tensors: Mapping[str, torch.Tensor]) -> Snapshot:
        """Copies tensors as they are now; those of a device arrive while it works on.

        Memory is pinned where the source is a CUDA device: only then does a copy not hold up the caller, and later
        kernels of the stream wait for it.
        """
        with self._lock:
            memory = self._free.pop() if self._free else {}
        taken: dict[str, torch.Tensor] = {}
        names: dict[Place, str] = {}
        on_device = False
        for name, tensor in tensors.items():
            source = tensor.detach()
            first = names.setdefault(place_of(source), name) if source.numel() else name
            if first != name:
                taken[name] = taken[first]
                continue
            copy = memory.get(name)
            if copy is None or copy.shape != source.shape or copy.dtype != source.dtype:
                copy = torch.empty(source.shape, dtype=source.dtype, pin_memory=source.is_cuda)
            taken[name] = copy.copy_(source, non_blocking=source.is_cuda)
            on_device = on_device or source.is_cuda
        ready = None
        if on_device:
            ready = torch.cuda.Event()  # type: ignore[no-untyped-call]  # torch gives it no types
            ready.record()
        return Snapshot(taken, ready)

    def give_back(self, snapshot: Snapshot) -> None:
        """Takes back a snapshot that nobody reads any more."""
        with self._lock:
            self._free.append(dict(snapshot.tensors))
