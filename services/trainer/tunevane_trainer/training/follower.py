"""A process that trains along: it does what the leader of its group says, and decides nothing."""

from __future__ import annotations

import signal
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from tunevane import log
from tunevane.api.trainer.v1 import run_pb2
from tunevane.api.type.v1 import event_pb2
from tunevane.callback.schedule import Schedule
from tunevane.rpc.blob_client import BlobClient
from tunevane.rpc.channel import connect
from tunevane.storage.blobs import BlobStore
from tunevane_trainer.training import assembly
from tunevane_trainer.training.distributed import Group, PeerLostError
from tunevane_trainer.training.loop import Stopped, Trainer
from tunevane_trainer.training.settings import WorkerConfig
from tunevane_trainer.training.state import Within, random_state

_log = log.get("follower")

PREEMPTED = 75
"""Exit code of a process whose run goes on elsewhere."""


class Silent:
    """Reports nothing: the leader reports."""

    def __init__(self) -> None:
        self.epoch = 0
        self.step = 0

    def emit(self, *events: event_pb2.Event) -> None:
        """Drops events."""


def follow(config: WorkerConfig, group: Group) -> int:
    """Trains along until the leader says that it is over, and returns the exit code that it says.

    75 where the leader, or another process, has ended.
    """
    preempted = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: preempted.set())
    trainer: Trainer | None = None
    try:
        while True:
            words, data = group.hear()
            if words["do"] == "build":
                trainer = _build(config, run_pb2.RunSpec.FromString(data), preempted)
            elif words["do"] == "epoch":
                assert trainer is not None
                _train(trainer, words)
            else:
                return int(words["code"])
    except PeerLostError as error:
        _log.warning("training ends here run=%s: %s", config.run, error)
        return PREEMPTED


def _build(config: WorkerConfig, spec: run_pb2.RunSpec, preempted: threading.Event) -> Trainer:
    store = BlobStore(config.blob_dir)
    channel = connect(config.trainer)
    try:
        # What the leader has put on the same disk is not fetched again.
        BlobClient(channel).fetch(assembly.needed(spec), store)
    finally:
        channel.close()
    return assembly.trainer(spec, store, Silent(), Schedule([], spec.model.name, with_val_loss=False), preempted.is_set)


def _train(trainer: Trainer, words: Mapping[str, Any]) -> None:
    """Trains one epoch, from where the leader begins; the leader's `shared.begin` says what is in the words."""
    trainer.reporter.step = words["step"]
    _make_room(trainer.optimizer, words["slots"], words["numbers"])
    done: Sequence[float] = words["losses"]
    try:
        trainer.train_epoch(words["number"], Within(done, random_state(trainer.model.device)) if done else None)
    except PeerLostError:
        raise
    except Stopped:
        # All stop here; the leader says what follows.
        return


def _make_room(optimizer: torch.optim.Optimizer, slots: Mapping[str, Any], numbers: Mapping[str, Any]) -> None:
    """Gives an optimizer the slots that the leader's has, whose values then come."""
    values: dict[int, dict[str, Any]] = {}
    for key, (dtype, shape) in slots.items():
        name, _, index = key.rsplit(".", 2)
        values.setdefault(int(index), {})[name] = torch.zeros(shape, dtype=getattr(torch, dtype))
    for key, number in numbers.items():
        name, _, index = key.rsplit(".", 2)
        values.setdefault(int(index), {})[name] = number
    optimizer.load_state_dict({"state": values, "param_groups": optimizer.state_dict()["param_groups"]})
