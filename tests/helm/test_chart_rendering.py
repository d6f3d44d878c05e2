"""What Helm makes of the chart: valid, restricted, and alike in Helm 3 and 4."""

from __future__ import annotations

import functools
import json
import subprocess
from pathlib import Path
from typing import Any

import cloudcoil.models.keda.v1alpha1 as keda
import cloudcoil.models.prometheus_operator.v1 as monitoring
import kubernetes_validate
import pytest
import yaml

from support.chart import (
    CHART,
    COMPONENTS,
    EVERYTHING,
    HELM_3,
    HELM_4,
    MATRIX,
    ROOT,
    Object,
    environment,
    named,
    pods,
    run_helm,
    template,
    try_template,
)
from support.pod_security import violations
from support.programs import require

KUBERNETES = ("1.31", "1.37")
# Any: the classes are generated from the operators' own definitions, each with fields of its own.
OPERATORS_KINDS: dict[str, Any] = {
    "ServiceMonitor": monitoring.ServiceMonitor,
    "PodMonitor": monitoring.PodMonitor,
    "PrometheusRule": monitoring.PrometheusRule,
    "ScaledObject": keda.ScaledObject,
}
"""Kinds whose schemas do not come with Kubernetes."""


@functools.cache
def rendered(name: str) -> list[Object]:
    return template(MATRIX[name])


@pytest.mark.parametrize("version", [HELM_3, HELM_4])
def test_lint_has_nothing_to_say(version: str) -> None:
    done = run_helm("lint", "--strict", str(CHART), version=version)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[WARNING]" not in done.stdout


@pytest.mark.parametrize("name", MATRIX)
def test_objects_are_valid_and_restricted(name: str) -> None:
    objects = rendered(name)
    kinds = [(each["kind"], each["metadata"]["name"]) for each in objects]
    assert len(kinds) == len(set(kinds))
    for each in objects:
        if each["kind"] not in OPERATORS_KINDS:
            for release in KUBERNETES:
                kubernetes_validate.validate(each, release, strict=True)
        if not each["metadata"]["name"].endswith("-more"):
            assert each["metadata"]["namespace"] == "lab"
        assert len(each["metadata"]["name"]) <= 63
    found = pods(objects)
    assert found
    for pod in found.values():
        assert list(violations(pod)) == []
        assert pod["automountServiceAccountToken"] is False
        # The variables of service links would be taken for settings that nobody knows.
        assert pod["enableServiceLinks"] is False
        for container in pod["containers"]:
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
            assert not container["image"].endswith(":latest")
            assert container["resources"]["requests"].keys() == {"cpu", "memory"}


@pytest.mark.parametrize("name", ["defaults", "everything", "keda"])
def test_helm_3_makes_the_same(name: str) -> None:
    older = template(MATRIX[name], version=HELM_3)
    key = lambda each: (each["kind"], each["metadata"]["name"])  # noqa: E731  # a word for both sides
    assert sorted(older, key=key) == sorted(rendered(name), key=key)


def test_the_check_of_pod_security_sees_what_users_break() -> None:
    objects = template(
        {
            "trainer": {
                "podSecurityContext": {"runAsUser": 0, "seccompProfile": {"type": "Unconfined"}},
                "extraVolumes": [{"name": "host", "hostPath": {"path": "/"}}],
            },
            "tracker": {"securityContext": {"allowPrivilegeEscalation": True, "capabilities": {"drop": []}}},
        }
    )
    found = pods(objects)
    assert list(violations(found["Deployment/vane-tunevane-trainer"])) == [
        "volume host of another kind",
        "trainer: runs as root",
        "trainer: seccompProfile Unconfined",
    ]
    assert len(list(violations(found["Deployment/vane-tunevane-tracker"]))) == 2


def test_a_typo_is_named() -> None:
    for version in (HELM_3, HELM_4):
        done = try_template({"evaluator": {"autoscalin": {"enabled": True}}}, version=version)
        assert done.returncode != 0
        assert "autoscalin" in done.stderr


def test_services_find_each_other() -> None:
    objects = rendered("defaults")
    variables = environment(pods(objects)["Deployment/vane-tunevane-trainer"])
    for component in ("evaluator", "tracker"):
        host, port = variables[f"TUNEVANE_TRAINER_{component.upper()}"].split(":")
        service = named(objects, "Service", host)
        assert int(port) in {each["port"] for each in service["spec"]["ports"]}
        deployment = named(objects, "Deployment", host)
        assert service["spec"]["selector"].items() <= deployment["spec"]["template"]["metadata"]["labels"].items()
    (test,) = named(objects, "Job", "vane-tunevane-test")["spec"]["template"]["spec"]["containers"]
    assert test["args"] == [
        "doctor",
        "--evaluator=vane-tunevane-evaluator:50052",
        "--tracker=vane-tunevane-tracker:50053",
        "--target=vane-tunevane-trainer:50051",
    ]
    headless = named(objects, "Service", "vane-tunevane-evaluator-headless")
    assert headless["spec"]["clusterIP"] == "None"


@pytest.mark.parametrize("component", COMPONENTS)
def test_probes_ask_for_a_service_that_is_there(component: str) -> None:
    from tunevane.api.evaluator.v1 import evaluator_service_pb2
    from tunevane.api.tracker.v1 import tracker_service_pb2
    from tunevane.api.trainer.v1 import trainer_service_pb2

    files = {"trainer": trainer_service_pb2, "evaluator": evaluator_service_pb2, "tracker": tracker_service_pb2}
    known = {service.full_name for service in files[component].DESCRIPTOR.services_by_name.values()}
    (container,) = pods(rendered("defaults"))[f"Deployment/vane-tunevane-{component}"]["containers"]
    assert container["readinessProbe"]["grpc"]["service"] in known
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container[probe]["grpc"]["port"] == ports["grpc"]


def test_everything_reaches_the_pods() -> None:
    objects = rendered("everything")
    found = pods(objects)
    trainer = found["Deployment/vane-tunevane-trainer"]
    (container,) = trainer["containers"]
    assert container["image"] == "registry.example.org/tunevane/trainer:0.1.0"
    assert container["resources"]["limits"] == {"memory": "16Gi", "nvidia.com/gpu": 2}
    assert {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"} in trainer["tolerations"]
    assert trainer["runtimeClassName"] == "nvidia"
    assert environment(trainer)["HTTPS_PROXY"] == "http://proxy.lab.svc:3128"
    evaluator = found["Deployment/vane-tunevane-evaluator"]
    secrets = {
        each["name"]: each["valueFrom"]["secretKeyRef"]
        for pod in found.values()
        for each in pod["containers"][0]["env"]
        if "valueFrom" in each
    }
    assert secrets == {
        "TUNEVANE_EVALUATOR_QDRANT_API_KEY": {"name": "qdrant", "key": "api-key"},
        "TUNEVANE_TRACKER_HTTP_TOKEN": {"name": "pages", "key": "token"},
        "WANDB_API_KEY": {"name": "wandb", "key": "api-key"},
    }
    assert "replicas" not in named(objects, "Deployment", "vane-tunevane-evaluator")["spec"]
    assert named(objects, "PodDisruptionBudget", "vane-tunevane-trainer")["spec"]["maxUnavailable"] == 0
    assert named(objects, "PodDisruptionBudget", "vane-tunevane-evaluator")["spec"]["maxUnavailable"] == "50%"
    egress = named(objects, "NetworkPolicy", "vane-tunevane-evaluator")["spec"]["egress"]
    assert [rule["to"] for rule in egress if rule["ports"] == [{"port": 7334}]] == [
        EVERYTHING["networkPolicy"]["qdrant"]
    ]
    assert "ephemeral" in evaluator["volumes"][0]
    assert not [each for each in objects if each["kind"] == "PersistentVolumeClaim" and "evaluator" in str(each)]
    assert environment(found["Deployment/vane-tunevane-tracker"])["TUNEVANE_TRACKER_PUBLIC_URL"] == (
        "https://runs.example.org"
    )


@pytest.mark.parametrize("name", ["everything", "keda"])
def test_objects_of_operators_have_their_fields(name: str) -> None:
    found = [each for each in rendered(name) if each["kind"] in OPERATORS_KINDS]
    assert len(found) == 4
    for each in found:
        read = OPERATORS_KINDS[each["kind"]].model_validate(each)
        # What a class does not know is read without a word, and missing in what it writes.
        assert json.loads(read.model_dump_json(by_alias=True, exclude_unset=True, exclude_none=True)) == each


def test_what_the_cluster_does_not_know_is_left_out_and_said() -> None:
    for name in ("everything", "keda"):
        assert OPERATORS_KINDS.keys() & {each["kind"] for each in rendered(name)}
        assert not OPERATORS_KINDS.keys() & {each["kind"] for each in template(MATRIX[name], apis=())}


def test_alerts_and_dashboards_are_the_tested_ones(tmp_path: Path) -> None:
    objects = rendered("everything")
    rules = named(objects, "PrometheusRule", "vane-tunevane")["spec"]
    assert rules == yaml.safe_load((CHART / "rules/tunevane.yaml").read_text(encoding="utf-8"))
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump(rules), encoding="utf-8")
    done = subprocess.run([require("promtool"), "check", "rules", str(file)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    shown = named(objects, "ConfigMap", "vane-tunevane-dashboards")
    assert shown["metadata"]["labels"]["grafana_dashboard"] == "1"
    folder = CHART / "dashboards"
    assert {name: json.loads(text) for name, text in shown["data"].items()} == {
        path.name: json.loads(path.read_text(encoding="utf-8")) for path in folder.iterdir()
    }
    # What etcd takes.
    assert sum(map(len, shown["data"].values())) < 1_000_000


@pytest.mark.parametrize("kind", ["ServiceMonitor", "PodMonitor"])
def test_monitors_name_a_port_and_pods_that_are_there(kind: str) -> None:
    objects = rendered("everything" if kind == "ServiceMonitor" else "keda")
    for component in COMPONENTS:
        name = f"vane-tunevane-{component}"
        spec = named(objects, kind, name)["spec"]
        (endpoint,) = spec["endpoints" if kind == "ServiceMonitor" else "podMetricsEndpoints"]
        target: Any = named(objects, "Service" if kind == "ServiceMonitor" else "Deployment", name)
        if kind == "PodMonitor":
            (container,) = target["spec"]["template"]["spec"]["containers"]
            ports, labels = container["ports"], target["spec"]["template"]["metadata"]["labels"]
        else:
            ports, labels = target["spec"]["ports"], target["metadata"]["labels"]
            assert "tunevane-headless" not in labels
        assert endpoint["port"] in {port["name"] for port in ports}
        assert spec["selector"]["matchLabels"].items() <= labels.items()


def test_the_chart_is_of_our_version() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    assert chart["appVersion"] == project["version"]
