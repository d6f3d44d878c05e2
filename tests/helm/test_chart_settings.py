"""Settings in values are what the services read, for any values that the schema takes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from support.chart import COMPONENTS, Object, environment, pods, template
from support.pod_security import violations
from tunevane import config
from tunevane_evaluator.config import EvaluatorConfig
from tunevane_tracker.config import TrackerConfig
from tunevane_trainer.config import TrainerConfig

CONFIGS: dict[str, type[Any]] = {"trainer": TrainerConfig, "evaluator": EvaluatorConfig, "tracker": TrackerConfig}

count = st.integers(1, 2**40)
seconds = st.floats(0.001, 1e9, allow_nan=False) | st.integers(1, 10**9)
word = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9 ._{}\"'$#:-]{0,20}[A-Za-z0-9]", fullmatch=True)
label = st.from_regex(r"[a-z][a-z0-9-]{0,20}[a-z0-9]", fullmatch=True)
port = st.integers(1, 65535)

SETTINGS: dict[str, st.SearchStrategy[Object]] = {
    "trainer": st.fixed_dictionaries(
        {}, optional={"max_workers": count, "lease_seconds": seconds, "blob_grace_seconds": seconds}
    ),
    "evaluator": st.fixed_dictionaries(
        {},
        optional={
            "device": st.sampled_from(["auto", "cpu", "cuda"]),
            "queue_limit": count,
            "blob_limit_bytes": count,
            "feature_limit_bytes": count,
            "drain_seconds": st.sampled_from([0, 0.5, 30]),
        },
    ),
    "tracker": st.fixed_dictionaries(
        {},
        optional={
            "wandb": st.sampled_from(["auto", "offline", "off"]),
            "wandb_project": word,
            "wandb_base_url": st.just("https://wandb.example.org:8443/a"),
            "sinks": st.lists(label, max_size=3),
            "max_runs": count,
        },
    ),
}


def component(name: str) -> st.SearchStrategy[Object]:
    return st.fixed_dictionaries(
        {"settings": SETTINGS[name], "service": st.fixed_dictionaries({}, optional={"port": port})},
        optional={
            "gpu": st.fixed_dictionaries({"count": st.integers(0, 8)}),
            "nodeSelector": st.dictionaries(label, label, max_size=2),
            "podLabels": st.dictionaries(label, word, max_size=2),
            "podAnnotations": st.dictionaries(label, word, max_size=2),
            "persistence": st.fixed_dictionaries({"enabled": st.booleans()}),
            "sharedMemory": st.fixed_dictionaries({"sizeLimit": st.sampled_from(["", "1Gi"])}),
            "preStopSleepSeconds": st.integers(0, 30),
            "terminationGracePeriodSeconds": st.integers(0, 10**6),
            "serviceAccount": st.fixed_dictionaries({"create": st.booleans(), "name": st.just("") | label}),
            "topologySpreadConstraints": st.just([]),
        },
    )


values = st.fixed_dictionaries({name: component(name) for name in COMPONENTS})


def check(chosen: Object) -> None:
    objects = template(chosen, release="r1")
    found = pods(objects)
    for name in COMPONENTS:
        pod = found[f"Deployment/r1-tunevane-{name}"]
        assert list(violations(pod)) == []
        read = config.load(CONFIGS[name], name, environ=environment(pod))
        for setting, value in chosen[name]["settings"].items():
            wanted = tuple(value) if isinstance(value, list) else value
            assert getattr(read, setting) == wanted, setting
        assert read.host == "0.0.0.0"
        # What the process listens on is what probes and Services name.
        (container,) = pod["containers"]
        assert read.port == container["ports"][0]["containerPort"] == container["livenessProbe"]["grpc"]["port"]
        shown = read.http_port if name == "tracker" else read.metrics_port
        assert shown == container["ports"][1]["containerPort"]
        assert str(read.state_dir) == container["volumeMounts"][0]["mountPath"]


# Each example is a call of Helm, so a failing one is shown as it was found.
quietly = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
)


@settings(quietly, max_examples=12)
@given(values)
def test_services_read_the_settings_that_were_given(chosen: Object) -> None:
    check(chosen)


@pytest.mark.nightly
@settings(quietly, max_examples=300)
@given(values)
def test_services_read_any_settings_that_were_given(chosen: Object) -> None:
    check(chosen)


def test_defaults_are_those_of_the_services() -> None:
    found = pods(template({}))
    for name, cls in CONFIGS.items():
        read = config.load(cls, name, environ=environment(found[f"Deployment/vane-tunevane-{name}"]))
        moved = {"host", "http_host", "metrics_host", "metrics_port", "state_dir", "evaluator", "tracker"}
        for field in read.__dataclass_fields__:
            if field not in moved:
                assert getattr(read, field) == getattr(cls(), field), f"{name}: {field}"
