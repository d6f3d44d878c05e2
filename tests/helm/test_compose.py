"""The compose files: valid by the Compose Specification, and about files, ports and settings that are there."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from compose_spec import PyCompose

from support.chart import COMPONENTS, ROOT
from support.programs import require
from tunevane import config
from tunevane_evaluator.config import EvaluatorConfig
from tunevane_tracker.config import TrackerConfig
from tunevane_trainer.config import TrainerConfig

DEPLOY = ROOT / "deploy"
CONFIGS: dict[str, type[Any]] = {"trainer": TrainerConfig, "evaluator": EvaluatorConfig, "tracker": TrackerConfig}
TOKEN = "0123456789abcdef"


def compose(name: str = "compose.yaml") -> dict[str, Any]:
    """Reads a compose file, its merge keys resolved."""
    found: dict[str, Any] = yaml.safe_load((DEPLOY / name).read_text(encoding="utf-8"))
    return found


@pytest.mark.parametrize("name", ["compose.yaml", "compose.gpu.yaml"])
def test_it_is_valid(name: str) -> None:
    # Reads every key strictly and raises at what the specification does not know.
    PyCompose.from_json(json.dumps(compose(name)))
    wrong = compose(name)
    wrong["services"]["trainer"]["restrat"] = "always"
    with pytest.raises(ValueError, match="restrat"):
        PyCompose.from_json(json.dumps(wrong))


def test_files_that_are_mounted_are_there() -> None:
    for service in compose()["services"].values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (DEPLOY / source).exists(), source
            else:
                assert source in compose()["volumes"]


def test_only_this_machine_reaches_anything() -> None:
    ports = [port for service in compose()["services"].values() for port in service.get("ports", [])]
    assert len(ports) == 6
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_nothing_is_the_latest() -> None:
    for service in compose()["services"].values():
        assert service["image"].rpartition(":")[2] not in ("", "latest")


def variables(component: str) -> dict[str, str]:
    """What the image sets and the compose file adds."""
    lines = (ROOT / f"services/{component}/Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    (image,) = (line.removeprefix("ENV ").split() for line in lines if line.startswith("ENV "))
    found = dict(each.split("=", 1) for each in image)
    for name, value in compose()["services"][component]["environment"].items():
        found[name] = TOKEN if "TUNEVANE_PAGES_TOKEN" in value else value
    return found


def test_services_read_their_settings_and_find_each_other() -> None:
    read = {name: config.load(CONFIGS[name], name, environ=variables(name)) for name in COMPONENTS}
    assert read["trainer"].evaluator == f"evaluator:{read['evaluator'].port}"
    assert read["trainer"].tracker == f"tracker:{read['tracker'].port}"
    assert read["evaluator"].qdrant_url == "http://qdrant:6334"
    assert "qdrant" in compose()["services"]
    shown = {
        f"tracker:{read['tracker'].http_port}",
        f"trainer:{read['trainer'].metrics_port}",
        f"evaluator:{read['evaluator'].metrics_port}",
    }
    prometheus = yaml.safe_load((DEPLOY / "compose/prometheus.yaml").read_text(encoding="utf-8"))
    ((job,),) = ([each["static_configs"][0]["targets"]] for each in prometheus["scrape_configs"])
    assert set(job) == shown
    for component in COMPONENTS:
        assert str(read[component].state_dir) == "/var/lib/tunevane"
        mounted = compose()["services"][component]["volumes"]
        assert mounted == [f"{component}:/var/lib/tunevane"]
        published = {port.split(":")[1] for port in compose()["services"][component]["ports"]}
        assert str(read[component].port) in published


def test_grafana_gets_our_dashboards_and_its_prometheus() -> None:
    grafana = compose()["services"]["grafana"]["volumes"]
    provisioning = yaml.safe_load((DEPLOY / "grafana/provisioning/dashboards.yaml").read_text(encoding="utf-8"))
    folder = provisioning["providers"][0]["options"]["path"]
    assert f"./helm/tunevane/dashboards:{folder}:ro" in grafana
    sources = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources.yaml").read_text(encoding="utf-8"))
    assert sources["datasources"][0]["url"] == "http://prometheus:9090"
    assert "127.0.0.1:9090:9090" in compose()["services"]["prometheus"]["ports"]


def test_prometheus_takes_its_configuration(tmp_path: Path) -> None:
    rules = DEPLOY / "helm/tunevane/rules"
    text = (DEPLOY / "compose/prometheus.yaml").read_text(encoding="utf-8")
    file = tmp_path / "prometheus.yaml"
    file.write_text(text.replace("/etc/prometheus/rules", str(rules)), encoding="utf-8")
    done = subprocess.run(
        [require("promtool"), "check", "config", str(file)], capture_output=True, text=True, env=dict(os.environ)
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "rules found" in done.stdout
