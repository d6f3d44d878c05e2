"""The chart's values: three blocks alike, a schema that refuses what nobody knows, and the services' own defaults."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator

from support.chart import COMPONENTS, EVERYTHING, MATRIX, Object, default_values, schema
from tunevane_evaluator.config import EvaluatorConfig
from tunevane_tracker.config import TrackerConfig
from tunevane_trainer.config import TrainerConfig

CONFIGS: dict[str, Any] = {"trainer": TrainerConfig, "evaluator": EvaluatorConfig, "tracker": TrackerConfig}

CHOSEN_BY_THE_CHART = {
    # Where a pod listens and keeps its folder.
    *("host", "port", "state_dir", "metrics_host", "metrics_port", "http_host", "http_port"),
    # From secrets and from the values at `qdrant`.
    *("http_token", "qdrant_url", "qdrant_api_key", "qdrant_ca_file"),
    # Pods share no disk.
    "evaluator_blob_dir",
    # In the folder of the tracker.
    "sinks_dir",
}
"""Settings of the services that are no values at `settings`."""

KUBERNETES = {
    *("resources", "nodeSelector", "affinity", "podSecurityContext", "securityContext"),
    *("startupProbe", "livenessProbe", "readinessProbe", "behavior"),
    *("labels", "annotations", "podLabels", "podAnnotations"),
}
"""Keys below which anything may stand that Kubernetes knows, or that users name themselves."""


def merged(below: Object, above: Object) -> Object:
    """Lays values over values, as Helm does."""
    found = copy.deepcopy(below)
    for key, value in above.items():
        inner = found.get(key)
        found[key] = merged(inner, value) if isinstance(value, dict) and isinstance(inner, dict) else value
    return found


def problems(values: Object) -> list[str]:
    """Says what the schema finds wrong with values on top of the defaults."""
    return [each.message for each in Draft7Validator(schema()).iter_errors(merged(default_values(), values))]


def keys(values: Object, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Lists the path of every key of ours."""
    for key, value in values.items():
        yield (*path, key)
        if isinstance(value, dict) and key not in KUBERNETES:
            yield from keys(value, (*path, key))


def test_the_three_blocks_have_the_same_keys() -> None:
    values = default_values()
    found = {component: {path for path in keys(values[component]) if path[0] != "settings"} for component in COMPONENTS}
    assert found["trainer"] == found["evaluator"] == found["tracker"]
    assert len(found["trainer"]) > 60


@pytest.mark.parametrize("component", COMPONENTS)
def test_settings_are_those_of_the_service_with_its_defaults(component: str) -> None:
    fields = {each.name: each.default for each in dataclasses.fields(CONFIGS[component])}
    wanted = {name: default for name, default in fields.items() if name not in CHOSEN_BY_THE_CHART}
    if component == "trainer":
        # Other pods, not this machine.
        wanted["evaluator"] = ""
    plain = {
        name: "" if default is None else list(default) if isinstance(default, tuple) else default
        for name, default in wanted.items()
    }
    assert default_values()[component]["settings"] == plain


def test_the_schema_is_one_and_takes_the_defaults() -> None:
    Draft7Validator.check_schema(schema())
    assert problems({}) == []


@pytest.mark.parametrize("name", MATRIX)
def test_the_schema_takes_what_is_meant_to_work(name: str) -> None:
    assert problems(MATRIX[name]) == []


PATHS = [path for path in keys(default_values()) if path[0] != "global" or len(path) == 1]


def test_every_misspelt_key_is_refused() -> None:
    validator = Draft7Validator(schema())
    values = copy.deepcopy(default_values())
    for path in PATHS:
        *above, key = path
        place: Any = values
        for each in above:
            place = place[each]
        for wrong in (f"{key}x", key[:-1], key.swapcase()):
            if wrong in place:
                continue
            place[wrong] = place.pop(key)
            assert not validator.is_valid(values), f"{'.'.join((*above, wrong))} was taken for {key}"
            place[key] = place.pop(wrong)
    assert validator.is_valid(values)


def test_a_missing_key_is_refused_where_templates_read_it() -> None:
    # Helm removes a key that users set to null.
    validator = Draft7Validator(schema())
    values = copy.deepcopy(default_values())
    for path in PATHS:
        *above, key = path
        place: Any = values
        for each in above:
            place = place[each]
        taken = place.pop(key)
        assert not validator.is_valid(values), f"without {'.'.join(path)} templates would fail in words of their own"
        place[key] = taken


@pytest.mark.parametrize(
    "values",
    [
        {"trainer": {"replicas": 2}},
        {"tracker": {"replicas": 2}},
        {"tracker": {"autoscaling": {"enabled": True}}},
        {"evaluator": {"image": {"tag": "latest"}}},
        {"evaluator": {"image": {"digest": "sha256:1"}}},
        {"evaluator": {"enabled": False}},
        {"evaluator": {"replicas": 2, "persistence": {"existingClaim": "cache"}}},
        {"evaluator": {"autoscaling": {"enabled": True, "keda": {"enabled": True}}}},
        {"evaluator": {"autoscaling": {"keda": {"enabled": True, "serverAddress": "http://prometheus:9090"}}}},
        {"evaluator": {"persistence": {"size": "10 GB"}}},
        {"metrics": {"serviceMonitor": {"enabled": True}, "podMonitor": {"enabled": True}}},
        {"pages": {"ingress": {"enabled": True, "host": "runs.example.org"}}},
        {"pages": {"ingress": {"enabled": True}, "existingSecret": {"name": "pages"}}},
        merged(EVERYTHING, {"tracker": {"enabled": False}}),
        {"trainer": {"settings": {"max_workers": 0}}},
        {"tracker": {"settings": {"sinks": ["a,b"]}}},
        {"logFormat": "xml"},
    ],
)
def test_values_that_cannot_work_together_are_refused(values: Object) -> None:
    assert problems(values)


def test_kubernetes_types_stay_open() -> None:
    assert not problems(
        {
            "global": {"cluster": "of another chart"},
            "trainer": {
                "resources": {"limits": {"amd.com/gpu": 1}, "claims": [{"name": "gpu"}]},
                "affinity": {"nodeAffinity": {}},
                "podSecurityContext": {"supplementalGroups": [100]},
            },
        }
    )


def test_readme_and_docs_are_generated_from_the_values() -> None:
    import chart_docs

    for path, text in chart_docs.files().items():
        assert Path(path).read_text(encoding="utf-8") == text, f"{path} is old; run: make chart-docs"
