"""What a run needs to go on after its last commit: optimizer, callbacks, counters."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

import torch

from tunevane.api.type.v1 import blob_pb2
from tunevane.callback.base import State
from tunevane.core import bundles
from tunevane.nn import checkpoint
from tunevane.storage.blobs import BlobStore

STATE_FILE = "state.json"


@dataclass(frozen=True)
class Within:
    """Where training stands between two batches of an epoch."""

    losses: Sequence[float]
    """Losses of the batches that are done."""

    random: Mapping[str, str]
    """State of the random generators, by device, in hexadecimal."""


@dataclass
class Progress:
    """Where training stands at an epoch end."""

    epoch: int = 0
    """Epochs committed."""

    step: int = 0
    """Optimizer steps taken."""

    decided: int = 0
    """The last epoch whose decisions were applied; before `epoch` where evaluation runs while training does."""

    stopped: bool = False
    """Whether training ends after the epoch `decided`."""

    callbacks: Mapping[str, State] = field(default_factory=dict)
    """What every decider remembers after the epoch `decided`, by key."""

    own: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """What callbacks measured themselves, by epoch: of those after `decided`."""

    within: Within | None = None
    """Set where a worker was asked to stop within the epoch after `epoch`."""


def of(optimizer: torch.optim.Optimizer) -> tuple[dict[str, torch.Tensor], dict[str, object]]:
    """Returns what an optimizer remembers: its tensors, which it goes on changing, and plain numbers, by name."""
    tensors: dict[str, torch.Tensor] = {}
    numbers: dict[str, object] = {}
    for index, slots in optimizer.state_dict()["state"].items():
        for name, value in slots.items():
            if isinstance(value, torch.Tensor):
                # All of one name are one file: every step changes all of them.
                tensors[f"{name}.of.{index}"] = value
            else:
                numbers[f"{name}.of.{index}"] = value
    return tensors, numbers


def save(
    progress: Progress, tensors: Mapping[str, torch.Tensor], numbers: Mapping[str, object], store: BlobStore
) -> blob_pb2.Bundle:
    """Stores progress, and what the optimizer remembered at that moment."""
    about = {
        "epoch": progress.epoch,
        "step": progress.step,
        "decided": progress.decided,
        "stopped": progress.stopped,
        "callbacks": progress.callbacks,
        "own": progress.own,
        "within": None if progress.within is None else asdict(progress.within),
        "optimizer_numbers": dict(numbers),
    }
    return checkpoint.save(tensors, store, {STATE_FILE: json.dumps(about, sort_keys=True).encode()})


def load(bundle: blob_pb2.Bundle, optimizer: torch.optim.Optimizer, store: BlobStore) -> Progress:
    """Restores the optimizer and returns the progress."""
    about = json.loads(store.read(bundles.get(bundle, STATE_FILE)))
    values = {**checkpoint.read(bundle, store), **about["optimizer_numbers"]}
    state: dict[int, dict[str, object]] = {}
    for key, value in values.items():
        name, _, index = key.rsplit(".", 2)
        state.setdefault(int(index), {})[name] = value.clone() if isinstance(value, torch.Tensor) else value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    within = None if about["within"] is None else Within(**about["within"])
    return Progress(
        about["epoch"], about["step"], about["decided"], about["stopped"], about["callbacks"], about["own"], within
    )


def random_state(device: torch.device) -> dict[str, str]:
    """Returns the state of the generators that training draws from."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return {name: bytes(state.tolist()).hex() for name, state in states.items()}


def restore_random_state(states: Mapping[str, str], device: torch.device) -> None:
    """Lets the generators go on where they were."""
    tensors = {name: torch.tensor(list(bytes.fromhex(state)), dtype=torch.uint8) for name, state in states.items()}
    torch.set_rng_state(tensors["cpu"])
    if device.type == "cuda" and "cuda" in tensors:
        torch.cuda.set_rng_state(tensors["cuda"], device)
