"""A registered callback that measures the model itself: its metrics are recorded and decided on like all others."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.worker_run import WorkerRun
from tunevane import plugins
from tunevane.api.trainer.v1 import run_pb2
from tunevane.api.type.v1 import event_pb2
from tunevane.callback.components import component
from tunevane.core.dataset import from_pairs
from tunevane.errors import InvalidRequestError
from tunevane.storage import datasets
from tunevane.storage.blobs import BlobStore
from tunevane_trainer import validation

PLUGIN = '''
"""A callback that measures how large the weights are, and draws random numbers while it does."""
from dataclasses import dataclass
from typing import ClassVar
import torch
from tunevane.callback import Callback

@dataclass(frozen=True)
class WeightNorm(Callback):
    """Measures the norm of all weights."""
    name: ClassVar[str] = "weight-norm"
    gives: str = "weight_norm"

    def measured(self, model_name):
        return ["weight_norm"]

    def measure(self, model):
        torch.rand(100)
        assert not model.training
        return {self.gives: float(sum(p.detach().double().norm() for p in model.parameters()))}
'''


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    package = tmp_path / "package"
    (package / "norm-1.0.dist-info").mkdir(parents=True)
    (package / "norm-1.0.dist-info" / "METADATA").write_text("Name: norm\nVersion: 1.0\n")
    (package / "norm-1.0.dist-info" / "entry_points.txt").write_text(
        "[tunevane.callbacks]\nweight-norm = weight_norm:WeightNorm\n"
    )
    (package / "weight_norm.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(str(package))
    plugins._registered.cache_clear()
    yield
    monkeypatch.undo()
    sys.modules.pop("weight_norm", None)
    plugins._registered.cache_clear()


def test_what_a_callback_measures_is_recorded_decided_on_and_changes_nothing(plugin: None, tmp_path: Path) -> None:
    callbacks = [component("weight-norm", {}), component("best-model-checkpoint", {"monitor": "weight_norm"})]
    with WorkerRun(tmp_path / "measured", callbacks).serving() as run:
        assert run.work() == 0
        with WorkerRun(tmp_path / "plain").serving() as plain:
            assert plain.work() == 0
            # Random numbers that a callback draws are its own.
            losses = [each.epoch_ended.train_loss for each in run.events("epoch_ended")]
            assert losses == [each.epoch_ended.train_loss for each in plain.events("epoch_ended")]
        measured = [(each.epoch, each.metrics_measured) for each in run.events("metrics_measured")]
        stages = [(epoch, each.stage) for epoch, each in measured]
        before, after, epoch = event_pb2.STAGE_BEFORE, event_pb2.STAGE_AFTER, event_pb2.STAGE_EPOCH
        assert stages == [(0, before), (1, epoch), (2, epoch), (2, after)]
        values = [each.metrics.values["weight_norm"] for _, each in measured]
        assert len(set(values[:3])) == 3
        best = 1 if values[1] > values[2] else 2
        assert run.run().result.artifact_epoch == best
        assert values[3] == values[best]


def test_a_callback_that_gives_something_else_than_it_announced_fails_the_run(plugin: None, tmp_path: Path) -> None:
    callbacks = [component("weight-norm", {"gives": "something"})]
    with WorkerRun(tmp_path / "run", callbacks, epochs=1).serving() as run:
        assert run.work() == 0
        assert run.run().state == run_pb2.RUN_STATE_FAILED
        assert run.run().failure_reason == (
            "'weight-norm' announced weight_norm and gave something; let it give what it announces"
        )


def test_a_class_that_announces_metrics_has_to_measure_them(plugin: None, tmp_path: Path) -> None:
    import weight_norm  # type: ignore[import-not-found]  # it was written above

    blobs = BlobStore(tmp_path / "blobs")
    spec = run_pb2.RunSpec(
        model=component("minilm", {}),
        train_data=datasets.save(from_pairs([("a", "b"), ("c", "d")]), blobs),
        callbacks=[component("weight-norm", {})],
    )
    validation.check(spec)
    del weight_norm.WeightNorm.measure
    with pytest.raises(InvalidRequestError, match="give its class a method measure") as caught:
        validation.check(spec)
    assert [problem.field for problem in caught.value.problems] == ["callbacks[0]"]
