"""Upgrades change nothing that Kubernetes refuses to change."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from support.chart import MATRIX, Object, template

IMMUTABLE: dict[str, tuple[tuple[str, ...], ...]] = {
    "Deployment": (("spec", "selector"),),
    "PersistentVolumeClaim": (
        ("spec", "accessModes"),
        ("spec", "storageClassName"),
        ("spec", "volumeName"),
        ("spec", "volumeMode"),
        ("spec", "selector"),
        ("spec", "dataSource"),
    ),
    "Service": (("spec", "clusterIP"), ("spec", "clusterIPs")),
    "PodDisruptionBudget": (("spec", "selector"),),
    "Ingress": (),
    "ServiceAccount": (),
    "NetworkPolicy": (),
    "HorizontalPodAutoscaler": (),
    "ConfigMap": (),
    "ServiceMonitor": (),
    "PodMonitor": (),
    "PrometheusRule": (),
    "ScaledObject": (),
}
"""Fields by kind that an update of an object may not change; from the API reference of Kubernetes."""


def at(each: Object, path: tuple[str, ...]) -> Any:
    for key in path:
        each = each.get(key, {})
    return each


def refused(old: list[Object], new: list[Object]) -> list[str]:
    """Lists the fields that Kubernetes would refuse to change."""
    before = {(each["kind"], each["metadata"]["name"]): each for each in old}
    found = []
    for each in new:
        # A hook is removed before it is made again.
        if "helm.sh/hook" in each["metadata"].get("annotations", {}):
            continue
        kind, name = each["kind"], each["metadata"]["name"]
        earlier = before.get((kind, name))
        if earlier is not None:
            found += [
                f"{kind} {name}: {'.'.join(path)}" for path in IMMUTABLE[kind] if at(earlier, path) != at(each, path)
            ]
    return found


@pytest.fixture(scope="module")
def releases() -> list[tuple[str, list[Object]]]:
    names = [name for name in MATRIX if name != "open"]
    # Another nameOverride is another application: its objects have other names.
    return [(name, template(MATRIX[name])) for name in names]


def test_any_values_can_follow_any_others(releases: list[tuple[str, list[Object]]]) -> None:
    for (old_name, old), (new_name, new) in itertools.permutations(releases, 2):
        assert refused(old, new) == [], f"from {old_name} to {new_name}"


def test_other_names_meet_no_object_of_before(releases: list[tuple[str, list[Object]]]) -> None:
    old = {(each["kind"], each["metadata"]["name"]) for each in dict(releases)["defaults"]}
    assert not old & {(each["kind"], each["metadata"]["name"]) for each in template(MATRIX["open"])}


def test_only_what_is_named_fixed_is(releases: list[tuple[str, list[Object]]]) -> None:
    moved = template({"trainer": {"persistence": {"storageClass": "fast", "accessModes": ["ReadWriteMany"]}}})
    assert refused(dict(releases)["defaults"], moved) == [
        "PersistentVolumeClaim vane-tunevane-trainer: spec.accessModes",
        "PersistentVolumeClaim vane-tunevane-trainer: spec.storageClassName",
    ]


def test_claims_stay_when_the_release_goes(releases: list[tuple[str, list[Object]]]) -> None:
    claims = [each for each in dict(releases)["defaults"] if each["kind"] == "PersistentVolumeClaim"]
    assert [each["metadata"]["name"] for each in claims] == ["vane-tunevane-trainer", "vane-tunevane-tracker"]
    for each in claims:
        assert each["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"


def test_a_new_release_of_the_chart_alone_restarts_no_pod(tmp_path: Any) -> None:
    import shutil

    from support.chart import CHART

    copy = tmp_path / "tunevane"
    shutil.copytree(CHART, copy)
    text = (copy / "Chart.yaml").read_text(encoding="utf-8")
    (copy / "Chart.yaml").write_text(text.replace("\nversion: ", "\nversion: 9"), encoding="utf-8")
    pods = [
        [each["spec"]["template"] for each in template({}, chart=chart) if each["kind"] == "Deployment"]
        for chart in (CHART, copy)
    ]
    assert pods[0] == pods[1]
