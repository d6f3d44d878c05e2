"""What a run needs to go on after its last commit: optimizer, callbacks, counters."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from tunevane.api.type.v1 import blob_pb2
from tunevane.callback.base import State
from tunevane.core import bundles
from tunevane.nn import checkpoint
from tunevane.storage.blobs import BlobStore

STATE_FILE = "state.json"


@dataclass
class Progress:
    """Where training stands at an epoch end."""

    epoch: int = 0
    """Epochs committed."""

    step: int = 0
    """Optimizer steps taken."""

    stopped: bool = False
    """Whether training ends after this epoch."""

    callbacks: Mapping[str, State] = field(default_factory=dict)
    """What every decider remembers, by key."""


def save(progress: Progress, optimizer: torch.optim.Optimizer, store: BlobStore) -> blob_pb2.Bundle:
    """Stores optimizer and progress."""
    tensors: dict[str, torch.Tensor] = {}
    numbers: dict[str, object] = {}
    for index, slots in optimizer.state_dict()["state"].items():
        for name, value in slots.items():
            if isinstance(value, torch.Tensor):
                tensors[f"{name}.{index}.value"] = value
            else:
                numbers[f"{name}.{index}.value"] = value
    about = {
        "epoch": progress.epoch,
        "step": progress.step,
        "stopped": progress.stopped,
        "callbacks": progress.callbacks,
        "optimizer_numbers": numbers,
    }
    return checkpoint.save(tensors, store, {STATE_FILE: json.dumps(about, sort_keys=True).encode()})


def load(bundle: blob_pb2.Bundle, optimizer: torch.optim.Optimizer, store: BlobStore) -> Progress:
    """Restores the optimizer and returns the progress."""
    about = json.loads(store.read(bundles.get(bundle, STATE_FILE)))
    values = {**checkpoint.read(bundle, store), **about["optimizer_numbers"]}
    state: dict[int, dict[str, object]] = {}
    for key, value in values.items():
        name, index, _ = key.rsplit(".", 2)
        state.setdefault(int(index), {})[name] = value.clone() if isinstance(value, torch.Tensor) else value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return Progress(about["epoch"], about["step"], about["stopped"], about["callbacks"])
