"""The options of WandBLogger are checked when a run is created, and the message names the option."""

from __future__ import annotations

from typing import Any

import pytest

from tunevane.callback import WandBLogger
from tunevane.callback.components import component, from_component
from tunevane.errors import InvalidRequestError


def problems(**options: Any) -> dict[str, str]:
    try:
        from_component(component("wandb-logger", options), "callbacks[0]")
    except InvalidRequestError as error:
        return {each.field.removeprefix("callbacks[0]."): each.message for each in error.problems}
    return {}


def test_the_defaults_are_fine() -> None:
    assert problems() == {}
    assert list(WandBLogger().problems()) == []


def test_everything_that_a_run_may_choose_is_taken() -> None:
    chosen = {"project": "search", "entity": "team", "group": "g", "job_type": "t", "name": "n", "notes": "x" * 1000}
    assert problems(wandb_args={**chosen, "tags": ["a", "b"]}, log_zero_shot=False) == {}
    assert problems(metrics_logger_step="batch", every_n_steps=10) == {}


@pytest.mark.parametrize(
    ("options", "field", "words"),
    [
        ({"metrics_logger_step": "hour"}, "metrics_logger_step", "batch"),
        ({"log_zero_shot": "maybe"}, "log_zero_shot", "true or false"),
        ({"metrics_logger_step": "batch", "every_n_steps": 0}, "every_n_steps", "at least 1"),
        ({"every_n_steps": 5}, "every_n_steps", "metrics_logger_step='batch'"),
        ({"wandb_args": {"anonymous": "must"}}, "wandb_args.anonymous", "project"),
        ({"wandb_args": {"project": ""}}, "wandb_args.project", "at least one character"),
        ({"wandb_args": {"project": "a/b"}}, "wandb_args.project", "without the characters"),
        ({"wandb_args": {"name": "n" * 129}}, "wandb_args.name", "128"),
        ({"wandb_args": {"tags": "best"}}, "wandb_args.tags", "list"),
        ({"wandb_args": {"tags": ["t" * 65]}}, "wandb_args.tags", "64"),
        ({"wandb_args": {"group": 7}}, "wandb_args.group", "text"),
        ({"wandb_args": "project"}, "wandb_args", ""),
    ],
)
def test_what_does_not_fit_is_named(options: dict[str, Any], field: str, words: str) -> None:
    found = problems(**options)
    assert words in found[field]


def test_a_secret_in_the_arguments_is_not_repeated() -> None:
    found = problems(wandb_args={"api_key": "s3cr3t-s3cr3t", "settings": {"api_key": "s3cr3t-s3cr3t"}})
    assert set(found) == {"wandb_args.api_key", "wandb_args.settings"}
    assert not any("s3cr3t" in message for message in found.values())
