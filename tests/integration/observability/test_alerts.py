"""Every alert fires when it should, says so in words, clears again, and stays silent while all is well."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.alert_cases import CASES, Case, healthy
from support.programs import require

RULES = Path(__file__).parents[3] / "deploy" / "helm" / "tunevane" / "rules" / "tunevane.yaml"
ALERTS: Mapping[str, Mapping[str, Any]] = {
    rule["alert"]: rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]
}


def promtool(folder: Path, tests: list[dict[str, Any]]) -> None:
    """Runs rule tests, which promtool reads from a file."""
    file = folder / "test.yaml"
    file.write_text(json.dumps({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": tests}))
    done = subprocess.run([require("promtool"), "test", "rules", file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def given(series: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"series": name, "values": values} for name, values in series.items()]


def test_promtool_accepts_the_rules() -> None:
    done = subprocess.run([require("promtool"), "check", "rules", RULES], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_accepts_the_configuration_that_docs_name() -> None:
    config = RULES.parents[3] / "prometheus" / "prometheus.yaml"
    done = subprocess.run([require("promtool"), "check", "config", config], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 rule files found" in done.stdout


def test_every_alert_has_a_case_and_says_what_it_means_and_how_bad_it_is() -> None:
    assert {case.alert for case in CASES} == set(ALERTS)
    for rule in ALERTS.values():
        assert rule["labels"] == {"severity": rule["labels"]["severity"], "product": "tunevane"}
        assert rule["labels"]["severity"] in {"info", "warning", "critical"}
        assert set(rule["annotations"]) == {"summary", "description"}


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.alert} {case.note}".strip())
def test_the_alert_fires_and_clears(case: Case, tmp_path: Path) -> None:
    rule = ALERTS[case.alert]
    expected = {
        "exp_labels": {**case.labels, **rule["labels"]},
        "exp_annotations": {"summary": case.says, "description": rule["annotations"]["description"]},
    }
    moments = [
        {"eval_time": when, "alertname": case.alert, "exp_alerts": [expected] if when == case.fires else []}
        for when in (case.silent, case.fires, case.cleared)
    ]
    promtool(tmp_path, [{"interval": "1m", "input_series": given(case.series), "alert_rule_test": moments}])


def test_nothing_fires_while_all_is_well(tmp_path: Path) -> None:
    moments = [
        {"eval_time": f"{minute}m", "alertname": alert, "exp_alerts": []}
        for minute in (3, 15, 62, 65, 115)
        for alert in ALERTS
    ]
    promtool(tmp_path, [{"interval": "1m", "input_series": given(healthy()), "alert_rule_test": moments}])
