"""Keras, Lightning and transformers decide as our presets of their names do, on thousands of runs.

Their own classes are the oracles. Values lie on a grid that single precision holds exactly, because Keras and
Lightning compare in it, and plateaus, ties, exact steps of `min_delta`, NaN and infinities are frequent.
"""

from __future__ import annotations

import importlib
import math
import os
import random
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any  # three untyped libraries

import pytest
import torch

from tunevane.callback import BestModelCheckpoint, EarlyStopping
from tunevane.callback.base import Measurements

RUNS = 3000
METRIC = "metric"
NUMBERS = [n / 64 for n in range(-4, 12)]
SPECIAL = [math.nan, math.inf, -math.inf]


@dataclass(frozen=True)
class Case:
    """One run and the options it is judged by."""

    values: list[float]
    mode: Any
    patience: int
    min_delta: float
    baseline: float | None
    check_finite: bool


def cases(seed: int) -> Iterator[Case]:
    """Draws runs: half of them walk in small steps, a quarter has values that are no numbers."""
    draw = random.Random(seed)
    for number in range(RUNS):
        length = draw.randint(1, 14)
        values = [draw.choice(NUMBERS) for _ in range(length)]
        if number % 2:
            at = draw.randrange(len(NUMBERS))
            for n in range(length):
                at = min(max(at + draw.choice([-1, 0, 0, 1, 2]), 0), len(NUMBERS) - 1)
                values[n] = NUMBERS[at]
        if number % 4 == 3:
            for _ in range(draw.randint(1, 3)):
                values[draw.randrange(length)] = draw.choice(SPECIAL)
        if number % 16 == 15:
            values[0] = draw.choice(SPECIAL)
        yield Case(
            values,
            draw.choice(["min", "max"]),
            draw.randint(0, 4),
            draw.choice([0.0, 1 / 64, 2 / 64]),
            draw.choice([None, None, 2 / 64, 5 / 64]),
            draw.random() < 0.5,
        )


@pytest.fixture(scope="module")
def keras() -> ModuleType:
    os.environ["KERAS_BACKEND"] = "torch"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module("keras")


@pytest.fixture(scope="module")
def lightning() -> ModuleType:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module("lightning.pytorch.callbacks")


@pytest.fixture(scope="module")
def transformers() -> ModuleType:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module("transformers")


def stopping(callback: EarlyStopping, values: list[float]) -> list[int]:
    """Returns what is counted after each epoch until training stops, as negative numbers where it does."""
    assert not list(callback.problems())
    state = callback.initial()
    counted: list[int] = []
    for epoch, value in enumerate(values, 1):
        state, decision = callback.decide(state, epoch, Measurements({METRIC: value}), METRIC)
        wait = state["wait"]
        assert isinstance(wait, int)
        if decision.verdict == "stop":
            return [*counted, -1 - wait]
        counted.append(wait)
    return counted


def selecting(callback: BestModelCheckpoint, values: list[float]) -> list[int]:
    """Returns the epochs that were saved."""
    state = callback.initial()
    saved = []
    for epoch, value in enumerate(values, 1):
        state, decision = callback.decide(state, epoch, Measurements({METRIC: value}), METRIC)
        if decision.verdict == "improved":
            saved.append(epoch)
            assert callback.best_epoch(state) == epoch
    return saved


def keras_stopping(keras: Any, case: Case) -> list[int]:
    peer = keras.callbacks.EarlyStopping(
        METRIC, min_delta=case.min_delta, patience=case.patience, mode=case.mode, baseline=case.baseline
    )
    peer.set_model(SimpleNamespace(stop_training=False))
    peer.on_train_begin()
    counted: list[int] = []
    for epoch, value in enumerate(case.values):
        peer.on_epoch_end(epoch, {METRIC: value})
        if peer.model.stop_training:
            return [*counted, -1 - peer.wait]
        counted.append(peer.wait)
    return counted


def test_early_stopping_of_keras(keras: ModuleType) -> None:
    for case in cases(1):
        ours = EarlyStopping.like_keras(
            METRIC, min_delta=case.min_delta, patience=case.patience, mode=case.mode, baseline=case.baseline
        )
        assert stopping(ours, case.values) == keras_stopping(keras, case), case


def test_checkpoints_of_keras(keras: ModuleType, tmp_path: Path) -> None:
    for case in cases(2):
        saved: list[int] = []
        peer = keras.callbacks.ModelCheckpoint(
            str(tmp_path / "{epoch}.keras"), monitor=METRIC, save_best_only=True, mode=case.mode
        )
        peer.set_model(SimpleNamespace(save=lambda path, saved=saved, **_: saved.append(int(Path(path).stem))))
        for epoch, value in enumerate(case.values):
            peer.on_epoch_end(epoch, {METRIC: value})
        assert selecting(BestModelCheckpoint.like_keras(METRIC, mode=case.mode), case.values) == saved, case


def lightning_trainer() -> Any:
    """Returns what Lightning's callbacks ask of a trainer, of one process that saves nothing."""
    strategy = SimpleNamespace(reduce_boolean_decision=lambda decision, **_: decision, broadcast=lambda value: value)
    return SimpleNamespace(
        callback_metrics={},
        fast_dev_run=False,
        strategy=strategy,
        should_stop=False,
        current_epoch=0,
        is_global_zero=False,
    )


def lightning_stopping(lightning: Any, case: Case) -> list[int]:
    peer = lightning.EarlyStopping(
        METRIC, min_delta=case.min_delta, patience=case.patience, mode=case.mode, check_finite=case.check_finite
    )
    trainer = lightning_trainer()
    counted: list[int] = []
    for value in case.values:
        trainer.callback_metrics = {METRIC: torch.tensor(value)}
        peer._run_early_stopping_check(trainer)
        if trainer.should_stop:
            return [*counted, -1 - peer.wait_count]
        counted.append(peer.wait_count)
    return counted


def test_early_stopping_of_lightning(lightning: ModuleType) -> None:
    for case in cases(3):
        ours = EarlyStopping.like_lightning(
            METRIC, min_delta=case.min_delta, patience=case.patience, mode=case.mode, check_finite=case.check_finite
        )
        assert stopping(ours, case.values) == lightning_stopping(lightning, case), case


def test_checkpoints_of_lightning(lightning: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lightning.ModelCheckpoint, "_save_checkpoint", lambda self, trainer, path: None)
    monkeypatch.setattr(lightning.ModelCheckpoint, "_should_remove_checkpoint", lambda *_: False)
    for case in cases(4):
        peer = lightning.ModelCheckpoint(dirpath=tmp_path, filename="{epoch}", monitor=METRIC, mode=case.mode)
        trainer = lightning_trainer()
        saved = []
        for epoch, value in enumerate(case.values, 1):
            before = peer.best_model_path
            candidates = {METRIC: torch.tensor(value), "epoch": torch.tensor(epoch), "step": torch.tensor(epoch)}
            peer._save_topk_checkpoint(trainer, candidates)
            if peer.best_model_path != before:
                saved.append(epoch)
        assert selecting(BestModelCheckpoint.like_lightning(METRIC, mode=case.mode), case.values) == saved, case


def transformers_run(transformers: Any, case: Case) -> tuple[list[int], list[int]]:
    """Returns what is counted after each evaluation until training stops, and the epochs that were new bests."""
    peer = transformers.EarlyStoppingCallback(case.patience, case.min_delta)
    args = SimpleNamespace(metric_for_best_model=METRIC, greater_is_better=case.mode == "max", save_strategy="epoch")
    state = transformers.TrainerState()
    trainer, control = SimpleNamespace(args=args, state=state), transformers.TrainerControl()
    counted: list[int] = []
    best: list[int] = []
    for epoch, value in enumerate(case.values, 1):
        metrics = {f"eval_{METRIC}": value}
        # The order of Trainer._maybe_log_save_evaluate: callbacks hear of an evaluation before the best is kept.
        peer.on_evaluate(args, state, control, metrics)
        if transformers.Trainer._determine_best_metric(trainer, metrics, None):
            best.append(epoch)
        counter = peer.early_stopping_patience_counter
        if control.should_training_stop:
            return [*counted, -1 - counter], best
        counted.append(counter)
    return counted, best


def test_early_stopping_of_transformers(transformers: ModuleType) -> None:
    for case in cases(5):
        ours = EarlyStopping.like_transformers(
            METRIC,
            early_stopping_patience=case.patience,
            early_stopping_threshold=case.min_delta,
            mode=case.mode,
        )
        assert stopping(ours, case.values) == transformers_run(transformers, case)[0], case


def test_checkpoints_of_transformers(transformers: ModuleType) -> None:
    for case in cases(6):
        _, best = transformers_run(transformers, replace(case, patience=100))
        assert selecting(BestModelCheckpoint.like_transformers(METRIC, mode=case.mode), case.values) == best, case


PRESETS: dict[str, Callable[[Case], EarlyStopping]] = {
    "keras": lambda case: EarlyStopping.like_keras(
        METRIC, min_delta=case.min_delta, patience=case.patience, mode=case.mode, baseline=case.baseline
    ),
    "lightning": lambda case: EarlyStopping.like_lightning(
        METRIC, min_delta=case.min_delta, patience=case.patience, mode=case.mode, check_finite=False
    ),
    "transformers": lambda case: EarlyStopping.like_transformers(
        METRIC, early_stopping_patience=case.patience, early_stopping_threshold=case.min_delta, mode=case.mode
    ),
}


@pytest.mark.parametrize("peer", PRESETS)
def test_without_what_they_do_differently_all_decide_as_we_do(peer: str) -> None:
    """The table of differences in the documentation is complete for finite values without a baseline."""
    for case in cases(7):
        if not all(map(math.isfinite, case.values)):
            continue
        plain = replace(
            case,
            patience=max(case.patience, 1),
            baseline=None,
            min_delta=0.0 if peer == "transformers" else case.min_delta,
        )
        ours = EarlyStopping(METRIC, plain.mode, plain.patience, plain.min_delta)
        assert stopping(ours, plain.values) == stopping(PRESETS[peer](plain), plain.values), plain
