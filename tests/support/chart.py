"""The Helm chart under test: its values, and what Helm makes of them."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from support.programs import absent

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy/helm/tunevane"
STACK = ROOT / "deploy/helm/tunevane-stack"
COMPONENTS = ("trainer", "evaluator", "tracker")
OPERATORS = ("monitoring.coreos.com/v1", "keda.sh/v1alpha1")
"""Kinds that a cluster may know besides its own."""

HELM_3, HELM_4 = "3.17.3", "4.3.1"

Object = dict[str, Any]
"""A Kubernetes object, or values: whatever YAML holds."""


def helm(version: str = HELM_4) -> Path:
    """Returns where a release of Helm is, or skips the test."""
    path = ROOT / f".tools/helm-{version}"
    if not path.exists():
        absent(f"needs Helm {version}, which 'make tools' puts into .tools")
    return path


@cache
def default_values() -> Object:
    """Reads values.yaml; do not change what it returns."""
    found: Object = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    return found


@cache
def schema() -> Object:
    """Reads the schema of the values."""
    found: Object = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    return found


def run_helm(*arguments: str, version: str = HELM_4) -> subprocess.CompletedProcess[str]:
    """Runs Helm and returns what it said, whether it went well or not."""
    with tempfile.TemporaryDirectory() as home:
        return subprocess.run(
            [str(helm(version)), *arguments],
            capture_output=True,
            text=True,
            env={"HOME": home, "PATH": "/usr/bin:/bin"},
            timeout=120,
            check=False,
        )


def try_template(
    values: Mapping[str, Any],
    *,
    version: str = HELM_4,
    apis: Iterable[str] = OPERATORS,
    chart: Path = CHART,
    release: str = "vane",
) -> subprocess.CompletedProcess[str]:
    """Lets Helm render a chart with values on top of its own."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(values, file)
        file.flush()
        options = [f"--api-versions={api}" for api in apis]
        return run_helm(
            "template", release, str(chart), "--namespace", "lab", "--values", file.name, *options, version=version
        )


def template(values: Mapping[str, Any], **options: Any) -> list[Object]:
    """Returns the objects that Helm makes of values; fails with what Helm said."""
    done = try_template(values, **options)
    assert done.returncode == 0, done.stderr
    return [each for each in yaml.load_all(done.stdout, Loader=yaml.CSafeLoader) if each]


def named(objects: Iterable[Object], kind: str, name: str) -> Object:
    """Returns the one object of a kind and a name."""
    (found,) = (each for each in objects if each["kind"] == kind and each["metadata"]["name"] == name)
    return found


def pods(objects: Iterable[Object]) -> dict[str, Object]:
    """Returns the pod specification of each workload, by kind and name."""
    return {
        f"{each['kind']}/{each['metadata']['name']}": each["spec"]["template"]["spec"]
        for each in objects
        if "template" in each.get("spec", {})
    }


def environment(pod: Object) -> dict[str, str]:
    """Returns the variables that a pod's first container sets as text."""
    return {each["name"]: each["value"] for each in pod["containers"][0]["env"] if "value" in each}


EVERYTHING: Object = {
    "global": {
        "imageRegistry": "registry.example.org",
        "imagePullSecrets": [{"name": "pull"}],
        "labels": {"team": "ml"},
    },
    "qdrant": {
        "url": "https://qdrant.vectors.svc:7334",
        "existingSecret": {"name": "qdrant"},
        "caSecret": {"name": "qdrant-ca"},
    },
    "wandb": {"existingSecret": {"name": "wandb"}},
    "pages": {
        "existingSecret": {"name": "pages"},
        "ingress": {"enabled": True, "className": "nginx", "host": "runs.example.org", "tlsSecret": "runs-tls"},
    },
    "networkPolicy": {
        "browsers": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ingress-nginx"}}}],
        "qdrant": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "vectors"}}}],
    },
    "metrics": {
        "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
        "prometheusRule": {"enabled": True, "labels": {"release": "prometheus"}},
        "dashboards": {"enabled": True},
    },
    "extraObjects": [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "{{ .Release.Name }}-more"}, "data": {"a": "b"}}
    ],
    "trainer": {
        "settings": {"max_workers": 4, "lease_seconds": 12.5},
        "gpu": {"count": 2},
        "runtimeClassName": "nvidia",
        "priorityClassName": "batch",
        "nodeSelector": {"pool": "gpu"},
        "podDisruptionBudget": {"enabled": True, "maxUnavailable": 0},
        "extraEnv": [{"name": "HTTPS_PROXY", "value": "http://proxy.{{ .Release.Namespace }}.svc:3128"}],
        "extraEnvFrom": [{"secretRef": {"name": "hub"}}],
        "extraVolumes": [{"name": "data", "configMap": {"name": "data"}}],
        "extraVolumeMounts": [{"name": "data", "mountPath": "/data"}],
    },
    "evaluator": {
        "gpu": {"count": 1},
        "podDisruptionBudget": {"maxUnavailable": "50%"},
        "autoscaling": {"enabled": True, "behavior": {"scaleDown": {"stabilizationWindowSeconds": 600}}},
        "persistence": {"enabled": True, "storageClass": "fast"},
    },
    "tracker": {"settings": {"sinks": ["jsonl", "tensorboard"]}, "service": {"type": "LoadBalancer"}},
}
"""Values that turn nearly everything on."""

MATRIX: dict[str, Object] = {
    "defaults": {},
    "everything": EVERYTHING,
    "embedded": {"trainer": {"persistence": {"enabled": False}}, "tracker": {"persistence": {"enabled": False}}},
    "claims": {
        name: {"persistence": {"enabled": True, "existingClaim": f"my-{name}"}, "serviceAccount": {"create": False}}
        for name in COMPONENTS
    },
    "keda": {
        "evaluator": {
            "autoscaling": {
                "enabled": True,
                "keda": {"enabled": True, "serverAddress": "http://prometheus:9090", "evaluationsPerPod": 1.5},
            }
        },
        "metrics": {"podMonitor": {"enabled": True}},
    },
    "evaluators": {"trainer": {"enabled": False}, "tracker": {"enabled": False}, "evaluator": {"replicas": 3}},
    "elsewhere": {"trainer": {"settings": {"evaluator": "evaluator.far:50052"}}, "evaluator": {"enabled": False}},
    "open": {"networkPolicy": {"enabled": False}, "nameOverride": "tv", "logFormat": "text"},
}
"""Values that differ in what they turn on and off."""
