"""The umbrella chart: its values reach ours, and it asks for charts by the names that it says."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from support.chart import CHART, STACK, Object, environment, named, pods, run_helm, template

OTHERS = ("qdrant", "kube-prometheus-stack")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The umbrella, with our chart and with empty charts in the place of those that come from elsewhere."""
    folder = tmp_path_factory.mktemp("stack") / "tunevane-stack"
    shutil.copytree(STACK, folder, ignore=shutil.ignore_patterns("charts", "Chart.lock"))
    shutil.copytree(CHART, folder / "charts/tunevane")
    for name, version in (("qdrant", "1.15.5"), ("kube-prometheus-stack", "77.0.0")):
        place = folder / "charts" / name
        (place / "templates").mkdir(parents=True)
        chart = {"apiVersion": "v2", "name": name, "version": version, "type": "application"}
        (place / "Chart.yaml").write_text(yaml.safe_dump(chart), encoding="utf-8")
        marker = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"stub-{name}"}}
        (place / "templates/marker.yaml").write_text(yaml.safe_dump(marker), encoding="utf-8")
    return folder


def stubs(objects: list[Object]) -> set[str]:
    return {
        each["metadata"]["name"].removeprefix("stub-")
        for each in objects
        if each["metadata"]["name"].startswith("stub-")
    }


def test_the_evaluator_finds_qdrant(stack: Path) -> None:
    objects = template({}, chart=stack)
    assert stubs(objects) == {"qdrant"}
    variables = environment(pods(objects)["Deployment/vane-tunevane-evaluator"])
    assert variables["TUNEVANE_EVALUATOR_QDRANT_URL"] == "http://vane-qdrant:6334"
    egress = named(objects, "NetworkPolicy", "vane-tunevane-evaluator")["spec"]["egress"]
    assert {
        "ports": [{"port": 6334}],
        "to": [{"podSelector": {"matchLabels": {"app.kubernetes.io/name": "qdrant"}}}],
    } in egress


def test_parts_are_turned_on_and_off(stack: Path) -> None:
    values = {"qdrant": {"enabled": False}, "kube-prometheus-stack": {"enabled": True}}
    assert stubs(template(values, chart=stack)) == {"kube-prometheus-stack"}


def test_lint_has_nothing_to_say(stack: Path) -> None:
    done = run_helm("lint", "--strict", str(stack))
    assert done.returncode == 0, done.stdout


def test_it_is_of_the_version_of_the_chart() -> None:
    ours = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    umbrella = yaml.safe_load((STACK / "Chart.yaml").read_text(encoding="utf-8"))
    wanted = {each["name"]: each for each in umbrella["dependencies"]}
    assert wanted.keys() == {"tunevane", *OTHERS}
    assert wanted["tunevane"]["version"] == ours["version"] == umbrella["version"]
    assert umbrella["appVersion"] == ours["appVersion"]
