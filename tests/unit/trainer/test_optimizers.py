"""AdamW: how the learning rate moves over steps and over layers."""

from __future__ import annotations

import pytest
import torch

from tunevane.core import specs
from tunevane.errors import InvalidRequestError
from tunevane_trainer.training.optimizers import AdamW


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [
        ("linear", [0.5, 1.0, 1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125]),
        ("cosine", [0.5, 1.0, 1.0, 0.962, 0.854, 0.691, 0.5, 0.309, 0.146, 0.038]),
        ("constant", [0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]),
    ],
)
def test_the_learning_rate_rises_and_then_follows_its_schedule(schedule: str, rates: list[float]) -> None:
    settings = AdamW(lr=2.0, warmup=0.2, schedule=schedule)  # type: ignore[arg-type]  # one of them
    assert [settings.rate(step, 10) for step in range(10)] == pytest.approx([2 * rate for rate in rates], abs=1e-3)


def network() -> torch.nn.Module:
    """Names its layers as transformers do."""
    model = torch.nn.Module()
    model.add_module("embeddings", torch.nn.Linear(2, 2))
    encoder = torch.nn.Module()
    encoder.add_module("layer", torch.nn.ModuleList([torch.nn.Linear(2, 2) for _ in range(3)]))
    model.add_module("encoder", encoder)
    model.add_module("linear", torch.nn.Linear(2, 2))
    return model


def factors(settings: AdamW) -> dict[str, float]:
    model = network()
    optimizer = settings.build(model)
    of = {id(each): group["factor"] for group in optimizer.param_groups for each in group["params"]}
    return {name: of[id(each)] for name, each in model.named_parameters() if name.endswith("weight")}


def test_lower_layers_learn_more_slowly() -> None:
    assert factors(AdamW(layer_decay=0.5)) == {
        "embeddings.weight": 0.0625,
        "encoder.layer.0.weight": 0.125,
        "encoder.layer.1.weight": 0.25,
        "encoder.layer.2.weight": 0.5,
        "linear.weight": 1.0,
    }


def test_parts_learn_at_rates_of_their_own() -> None:
    found = factors(AdamW(lr_factors={"encoder": 0.1, "encoder.layer.1": 3, "linear": 0}))
    assert found == {
        "embeddings.weight": 1.0,
        "encoder.layer.0.weight": 0.1,
        "encoder.layer.1.weight": 3.0,
        "encoder.layer.2.weight": 0.1,
        "linear.weight": 0.0,
    }
    with pytest.raises(InvalidRequestError, match="'encodr' begins the name of no layer; names begin with: embeddings"):
        factors(AdamW(lr_factors={"encodr": 0.1}))


def test_biases_do_not_decay() -> None:
    optimizer = AdamW(weight_decay=0.3, layer_decay=0.9).build(network())
    decays = {each.ndim: group["weight_decay"] for group in optimizer.param_groups for each in group["params"]}
    assert decays == {1: 0.0, 2: 0.3}


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"lr": -1.0}, "lr"),
        ({"lr": float("inf")}, "lr"),
        ({"warmup": 1.5}, "warmup"),
        ({"weight_decay": -0.1}, "weight_decay"),
        ({"max_grad_norm": 0}, "max_grad_norm"),
        ({"layer_decay": 0}, "layer_decay"),
        ({"layer_decay": 1.1}, "layer_decay"),
        ({"schedule": "step"}, "schedule"),
        ({"lr_factors": {"encoder": "much"}}, "lr_factors.encoder"),
    ],
)
def test_options_that_cannot_work_are_refused(options: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        specs.build(AdamW, options, "optimizer")
    assert [problem.field for problem in caught.value.problems] == [f"optimizer.{field}"]


def test_gradients_may_be_left_as_they_are() -> None:
    assert specs.build(AdamW, {"max_grad_norm": None}, "optimizer").max_grad_norm is None
