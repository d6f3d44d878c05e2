"""The loop: parts of batches give the result of the whole, and an epoch that is resumed repeats to the bit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from support.small_run import model_folder
from support.training import LABELLED, PAIRS, Quiet, trainer, without_dropout
from tunevane.core import bundles
from tunevane.errors import InvalidRequestError
from tunevane.nn import checkpoint
from tunevane.storage.blobs import BlobStore
from tunevane_trainer.training import state
from tunevane_trainer.training.loop import Trainer


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path)


def trained(made: Trainer, epochs: int = 2) -> list[float]:
    return [made.train_epoch(number).train_loss for number in range(1, epochs + 1)]


def weights(made: Trainer) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in made.model.state_dict().items()}


def digest(made: Trainer, store: BlobStore) -> str:
    return bundles.digest(checkpoint.save(made.model.state_dict(), store))


@pytest.mark.parametrize(("data", "loss"), [(PAIRS, "clip"), (LABELLED, "proxy-anchor")])
def test_parts_of_a_batch_give_the_result_of_the_whole(store: BlobStore, data: Any, loss: str) -> None:
    whole = trainer(store, data, loss=(loss, {}), eval_data=data)
    parts = trainer(store, data, loss=(loss, {}), eval_data=data, training={"micro_batch_size": 3})
    assert trained(whole) == pytest.approx(trained(parts), rel=1e-4)
    for name, tensor in weights(whole).items():
        torch.testing.assert_close(tensor, weights(parts)[name], rtol=1e-3, atol=2e-4, msg=name)


def test_dropout_is_the_same_in_both_passes_over_a_part(store: BlobStore) -> None:
    made = trainer(store, folder=model_folder(), training={"micro_batch_size": 3})
    made.model.train()
    read, seen = made.readers[0], []

    def watched(positions: list[int]) -> torch.Tensor:
        vectors = read(positions)
        seen.append((tuple(positions), vectors.detach().clone()))
        return vectors

    made.readers = (watched, None)  # type: ignore[assignment]  # it is called, no more
    made.train_epoch(1)
    first: dict[tuple[int, ...], torch.Tensor] = {}
    for positions, vectors in seen:
        if positions in first:
            assert torch.equal(first.pop(positions), vectors)
        else:
            first[positions] = vectors
    assert not first


def test_too_little_memory_halves_what_is_computed_at_once(store: BlobStore) -> None:
    made, plain = trainer(store), trainer(store, training={"micro_batch_size": 2})

    def limited(_: torch.nn.Module, args: tuple[Any, ...]) -> None:
        if len(args[0]["input_ids"]) > 3 and torch.is_grad_enabled():
            raise torch.OutOfMemoryError("no room")

    made.model.register_forward_pre_hook(limited)
    assert trained(made) == trained(plain)
    assert made.gradients.rows == 2
    assert isinstance(made.reporter, Quiet)
    said = [event.log_written.text for event in made.reporter.events if event.HasField("log_written")]
    assert said == [
        "The device lacks memory for 8 rows at once, so it computes 4 from now on",
        "The device lacks memory for 4 rows at once, so it computes 2 from now on",
    ]


def test_a_size_that_was_asked_for_is_kept(store: BlobStore) -> None:
    made = trainer(store, training={"micro_batch_size": 4})

    def full(*_: Any) -> None:
        raise torch.OutOfMemoryError("no room")

    made.model.register_forward_pre_hook(full)
    with pytest.raises(torch.OutOfMemoryError):
        made.train_epoch(1)


def test_gradient_checkpointing_changes_nothing(store: BlobStore) -> None:
    plain = trainer(store, folder=model_folder())
    less = trainer(store, folder=model_folder(), training={"gradient_checkpointing": True})
    assert trained(plain) == trained(less)
    assert digest(plain, store) == digest(less, store)


def test_gradient_checkpointing_needs_a_transformer(store: BlobStore) -> None:
    from tunevane_trainer.training.checkpointing import recompute_activations

    with pytest.raises(InvalidRequestError, match="no part of this model can compute its activations again"):
        recompute_activations(torch.nn.Sequential(torch.nn.Linear(2, 2)))


@pytest.mark.parametrize("after", [1, 2])
@pytest.mark.parametrize(
    ("data", "options"),
    [
        (PAIRS, {"loss": ("clip", {}), "optimizer": {"schedule": "cosine", "layer_decay": 0.5}}),
        (LABELLED, {"loss": ("proxy-anchor", {}), "training": {"per_label": 2, "micro_batch_size": 3}}),
    ],
)
def test_a_run_that_is_resumed_repeats_to_the_bit(
    store: BlobStore, data: Any, options: Mapping[str, Any], after: int
) -> None:
    whole, first, second = (trainer(store, data, folder=model_folder(), **options) for _ in range(3))
    losses = trained(whole, 3)
    assert trained(first, after) == losses[:after]
    kept = checkpoint.save(first.model.state_dict(), store)
    remembered = state.save(state.Progress(after, first.reporter.step), *state.of(first.optimizer), store)
    # Nothing of the first goes on into the second but what was kept.
    checkpoint.load(second.model, kept, store)
    second.reporter.step = state.load(remembered, second.optimizer, store).step
    assert [second.train_epoch(number).train_loss for number in range(after + 1, 4)] == losses[after:]
    assert digest(second, store) == digest(whole, store)


def test_validation_changes_nothing(store: BlobStore) -> None:
    plain, measured = trainer(store), trainer(store, eval_data=PAIRS)
    trained(plain)
    trained(measured)
    assert digest(plain, store) == digest(measured, store)


def test_a_model_learns(store: BlobStore) -> None:
    losses = trained(trainer(store, folder=without_dropout(), epochs=8), 8)
    assert losses[-1] < 0.5 * losses[0], losses
