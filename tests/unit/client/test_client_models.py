"""Models as people see them, from the trainer's own list."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from tunevane.api.trainer.v1 import trainer_service_pb2
from tunevane.client.models import descriptions, models_table
from tunevane.errors import InvalidRequestError
from tunevane_trainer.trainer_servicer import components


def test_models_are_chosen_by_task() -> None:
    found = {model.name for model in descriptions(_models(), "text-to-image")}
    assert found == {"sentence-transformers", "two-towers"}
    every = {model.name: model for model in descriptions(_models())}
    assert every["minilm"].dimensions == 384
    assert every["efficientnet-lite0"].tasks == ("image-to-image",)
    assert every["two-towers"].dimensions is None
    assert {"freeze", "output_dim", "lora_rank", "layers"} <= set(every["minilm"].options)


def test_an_unknown_task_is_named() -> None:
    with pytest.raises(InvalidRequestError, match="unknown task 'text-to-txt'; did you mean 'text-to-text'"):
        descriptions(_models(), "text-to-txt")


def test_the_table_shows_all_of_it() -> None:
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(models_table(descriptions(_models(), "image-to-image")))
    text = console.export_text()
    assert "efficientnet-lite0" in text
    assert "1280" in text
    assert "output_dim" in text


def _models() -> list[trainer_service_pb2.ComponentInfo]:
    return [each for each in components() if each.task]
