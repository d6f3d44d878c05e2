"""Losses: every registered one can be built, falls when a model fits better, and refuses what it cannot use."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from tunevane import plugins
from tunevane.errors import InvalidRequestError
from tunevane_trainer.training import losses
from tunevane_trainer.training.losses import LossInfo, Space

NAMES = plugins.names("losses")
SPACE = Space(dim=8, classes=4)
ORDER = ("pairs", "items", "scored")


def info(name: str) -> LossInfo:
    found = plugins.load("losses", name)
    assert isinstance(found, LossInfo)
    return found


def data(name: str) -> tuple[list[torch.nn.Parameter], torch.Tensor]:
    """Makes random vectors of 16 rows of which those that belong together are not nearer than others."""
    torch.manual_seed(3)
    kind = info(name).kinds[0]
    columns = [torch.nn.Parameter(torch.randn(16, 8)) for _ in range(1 if kind == "items" else 2)]
    labels = {
        "items": torch.arange(16) % 4,
        "pairs": torch.zeros(16),
        "scored": (torch.arange(16) % 2).float(),
    }
    return columns, labels[kind]


@pytest.mark.parametrize("name", NAMES)
def test_a_loss_falls_when_its_vectors_are_trained(name: str) -> None:
    loss = info(name).build(info(name).options(), SPACE)
    assert isinstance(loss, torch.nn.Module)
    columns, labels = data(name)
    optimizer = torch.optim.Adam([*columns, *loss.parameters()], lr=0.05)
    values = []
    for _ in range(30):
        optimizer.zero_grad()
        value = loss(columns, labels)
        assert value.shape == ()
        torch.autograd.backward(value)
        optimizer.step()
        values.append(float(value.detach()))
    assert values[-1] < 0.9 * values[0], values


def test_a_loss_is_that_of_its_library() -> None:
    from sentence_transformers.sentence_transformer.losses import (
        BatchAllTripletLoss,
        BatchHardTripletLossDistanceFunction,
        CoSENTLoss,
        MultipleNegativesRankingLoss,
    )

    cosine = BatchHardTripletLossDistanceFunction.cosine_distance
    none = torch.nn.Identity()
    expected = {
        "multiple-negatives-ranking": MultipleNegativesRankingLoss(none, scale=1 / 0.05),  # type: ignore[arg-type]  # no model is asked
        "batch-all-triplet": BatchAllTripletLoss(none, distance_metric=cosine, margin=0.2),  # type: ignore[arg-type]  # as above
        "cosent": CoSENTLoss(none, scale=20.0),  # type: ignore[arg-type]  # as above
    }
    for name, theirs in expected.items():
        columns, labels = data(name)
        ours = info(name).build(info(name).options(), SPACE)(columns, labels)
        assert torch.equal(ours, theirs([{"sentence_embedding": column} for column in columns], labels))


def test_clip_s_loss_is_multiple_negatives_both_ways_at_its_first_temperature() -> None:
    columns, labels = data("clip")
    both_ways = info("multiple-negatives-symmetric-ranking")
    expected = both_ways.build(both_ways.options(temperature=0.07), SPACE)(columns, labels)
    loss = info("clip").build(info("clip").options(), SPACE)
    assert isinstance(loss, torch.nn.Module)
    value = loss(columns, labels)
    torch.testing.assert_close(value, expected)
    torch.autograd.backward(value)
    assert loss.log_scale.grad is not None


@pytest.mark.parametrize(
    ("miner", "options"),
    [
        ("TripletMarginMiner", {"type_of_triplets": "semihard"}),
        ("BatchHardMiner", {}),
        ("MultiSimilarityMiner", {"epsilon": -0.5}),
        ("BatchEasyHardMiner", {}),
        ("PairMarginMiner", {}),
        ("DistanceWeightedMiner", {}),
        ("AngularMiner", {}),
    ],
)
def test_a_miner_chooses_what_a_loss_looks_at(miner: str, options: dict[str, object]) -> None:
    columns, labels = data("triplet-margin")
    _, chosen = losses.check("triplet-margin", {"miner": miner, "miner_options": options}, ["items"], "loss")
    plain = info("triplet-margin").build(info("triplet-margin").options(), SPACE)
    torch.manual_seed(0)
    mined = info("triplet-margin").build(chosen, SPACE)
    assert not torch.equal(mined(columns, labels), plain(columns, labels))


@pytest.mark.parametrize(
    ("name", "options", "kinds", "field", "words"),
    [
        ("tripletmargin", {}, ["items"], "loss.name", "did you mean 'triplet-margin'?"),
        ("clip", {}, ["items"], "loss.name", "learns from pairs, and train_data holds contents with labels; use"),
        ("triplet-margin", {}, ["pairs", "scored"], "loss.name", "learns from contents with labels"),
        ("clip", {"temperature": 0}, ["pairs"], "loss.temperature", "must be positive, not 0.0"),
        ("clip", {"temprature": 1}, ["pairs"], "loss.temprature", "did you mean 'temperature'?"),
        ("contrastive", {"miner": "HardMiner"}, ["items"], "loss.miner", "unknown miner 'HardMiner'"),
        ("contrastive", {"miner_options": {"a": 1}}, ["items"], "loss.miner", "is needed where miner_options"),
        (
            "contrastive",
            {"miner": "BatchHardMiner", "miner_options": {"a": 1}},
            ["items"],
            "loss.miner_options.a",
            "unknown option 'a'",
        ),
    ],
)
def test_what_cannot_work_is_refused(
    name: str, options: dict[str, object], kinds: list[str], field: str, words: str
) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        losses.check(name, options, kinds, "loss")  # type: ignore[arg-type]  # kinds
    (problem,) = caught.value.problems
    assert (problem.field, words in problem.message) == (field, True), problem


def test_a_loss_without_a_name_goes_by_the_kind() -> None:
    assert losses.check("", {}, ["items"], "loss")[0].name == "triplet-margin"
    assert losses.check("", {}, ["scored"], "loss")[0].name == "cosent"
    assert set(losses.DEFAULT_FOR.values()) <= set(NAMES)


def test_the_page_about_losses_lists_them_all() -> None:
    page = Path(__file__).parents[3] / "docs" / "how-to" / "losses.md"
    listed = [line for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    assert listed == [
        row(info(name)) for name in sorted(NAMES, key=lambda name: (ORDER.index(info(name).kinds[0]), name))
    ]


def row(found: LossInfo) -> str:
    options = [each for each in dataclasses.fields(found.options) if not each.name.startswith("miner")]
    shown = ", ".join(f"`{each.name}: {str(each.default).lower()}`" for each in options)
    return f"| `{found.name}` | {found.kinds[0]} | {found.summary} | {shown} |"


@pytest.mark.parametrize("name", NAMES)
def test_every_option_has_a_default_and_a_loss_its_own_name(name: str) -> None:
    found = info(name)
    assert found.name == name
    assert found.summary.endswith(".")
    assert all(
        option.default is not dataclasses.MISSING or option.default_factory is not dataclasses.MISSING
        for option in dataclasses.fields(found.options)
    )
