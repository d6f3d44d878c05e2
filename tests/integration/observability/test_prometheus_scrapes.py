"""A real Prometheus scrapes the three services during a real run, and everything we ship finds its data there."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
import yaml

import tunevane
from dashboards.__main__ import FOLDER
from dashboards.parts import expressions
from support.programs import require
from support.prometheus import Prometheus, prometheus
from support.stack import local_services
from support.waits import eventually
from tunevane.callback import BestModelCheckpoint, EarlyStopping, EvaluationCallback, WandBLogger
from tunevane.local.supervisor import free_ports
from tunevane_tracker.export import jsonl

RULES = FOLDER.parent / "rules" / "tunevane.yaml"
WORDS = ["cat", "dog", "house", "car", "tree", "river", "mountain", "book"]
PAIRS = [{"query": f"the {word}", "document": word} for word in WORDS] * 8
QUERIES = [{"id": f"q-{word}", "text": f"a {word}", "label": word} for word in WORDS]
INDEX = [{"id": f"d-{word}", "text": word, "label": word} for word in WORDS]
RATE = "1m"

MAY_BE_EMPTY: Mapping[str, str] = {
    'verdict="not improved"': "a run that improves at every epoch has no such verdict",
    'verdict="stop"': "a run that ends after its last epoch was not stopped",
}
"""Parts of expressions that have no data in some healthy runs; `test_dashboard_queries` proves them on given series."""


@dataclass(frozen=True)
class Scraped:
    """A run that was scraped from its begin to its end."""

    server: Prometheus
    """Who scraped."""

    begin: float
    """When the run was started, Unix seconds."""

    urls: Mapping[str, str]
    """Where each service shows its metrics."""

    log: str
    """What the services wrote."""

    run: tunevane.Run
    """The run."""


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scraped]:
    require("prometheus")
    home = tmp_path_factory.mktemp("home")
    ports = dict(zip(("TRAINER", "EVALUATOR"), free_ports(2), strict=True))
    settings = {f"TUNEVANE_{name}_METRICS_PORT": str(port) for name, port in ports.items()}
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        with local_services(home) as stack:
            urls = {name.lower(): f"http://127.0.0.1:{port}/metrics" for name, port in ports.items()}
            urls["tracker"] = f"{stack.pages}/metrics"
            targets = [url.removeprefix("http://").removesuffix("/metrics") for url in urls.values()]
            with prometheus(tmp_path_factory.mktemp("prometheus"), targets, [RULES]) as server:
                eventually(lambda: len(server.now("up == 1")) == 3)
                begin = time.time()
                run = tunevane.fit(
                    model="minilm",
                    model_options={"layers": 1, "max_seq_length": 16},
                    train_data=PAIRS,
                    eval_data=PAIRS[:8],
                    epochs=3,
                    batch_size=8,
                    seed=7,
                    callbacks=[
                        EarlyStopping(monitor="reciprocal_rank", patience=3),
                        WandBLogger(),
                        EvaluationCallback(query_data=QUERIES, index_data=INDEX, limit=5),
                        BestModelCheckpoint(monitor="reciprocal_rank"),
                    ],
                )
                assert run.wait() == "SUCCEEDED", run.logs()
                eventually(lambda: server.has('tunevane_run_state{state="succeeded"} == 1'))
                # Two scrapes later there are rates of everything.
                then = time.time()
                eventually(lambda: server.has(f"min(timestamp(up)) > {then + 1.5}"))
                yield Scraped(server, begin, urls, (home / "stack.log").read_text(), run)
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def variables(server: Prometheus, content: dict[str, Any]) -> dict[str, str]:
    """Chooses what Grafana would: the first value of each drop-down."""
    chosen = {"$__rate_interval": RATE}
    for each in content["templating"]["list"]:
        if each["type"] == "query":
            query = each["query"]["query"]
            expr, label = query.removeprefix("label_values(").removesuffix(")").rsplit(", ", 1)
            for name, value in chosen.items():
                expr = expr.replace(name, value)
            values = sorted({dict(labels).get(label, "") for labels in server.now(expr)} - {""})
            chosen[f"${each['name']}"] = values[0] if values else ""
    return chosen


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.json")), ids=lambda path: path.stem)
def test_every_expression_of_the_dashboard_finds_data(scraped: Scraped, path: Path) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    chosen = variables(scraped.server, content)
    asked = expressions(content)
    empty = []
    for title, expr in asked:
        filled = expr
        for name, value in chosen.items():
            filled = filled.replace(name, value)
        assert "$" not in filled.replace('"$1"', ""), filled
        series = scraped.server.over(filled, scraped.begin, time.time())
        if not any(math.isfinite(value) for points in series.values() for _, value in points):
            empty.append((title, filled))
    missing = [each for each in empty if not any(part in each[1] for part in MAY_BE_EMPTY)]
    assert not missing
    assert len(asked) > 15


def test_every_rule_is_evaluated_and_none_fires_on_a_healthy_run(scraped: Scraped) -> None:
    def rules() -> list[dict[str, Any]]:
        return [rule for group in scraped.server.get("rules")["groups"] for rule in group["rules"]]

    eventually(lambda: all(rule["health"] != "unknown" for rule in rules()))
    shipped = {rule["alert"] for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]}
    assert {rule["name"] for rule in rules()} == shipped
    for rule in rules():
        assert rule["health"] == "ok", (rule["name"], rule.get("lastError"))
        assert rule["state"] == "inactive", rule["name"]
        # Executed once more by itself, as somebody who looks into an alert does.
        scraped.server.now(rule["query"])


@pytest.mark.parametrize("service", ["trainer", "evaluator", "tracker"])
def test_promtool_accepts_the_metrics(scraped: Scraped, service: str) -> None:
    with urlopen(scraped.urls[service], timeout=10) as answer:
        text = answer.read()
    done = subprocess.run([require("promtool"), "check", "metrics"], input=text, capture_output=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")


def test_what_prometheus_holds_is_what_happened(scraped: Scraped) -> None:
    server = scraped.server
    assert list(server.now("tunevane_run_epoch").values()) == [3.0]
    assert list(server.now("tunevane_run_train_steps_total").values()) == [24.0]
    assert list(server.now('tunevane_trainer_runs{state="succeeded"}').values()) == [1.0]
    assert list(server.now("tunevane_trainer_mirror_lag_events").values()) == [0.0]
    computed = list(server.now('tunevane_evaluations_total{outcome="computed"}').values())
    # Before fine-tuning and at three epoch ends; the artifact's weights are those of an epoch.
    assert computed == [4.0]
    assert list(server.now('tunevane_evaluations_total{outcome="remembered"}').values()) == [1.0]
    assert list(server.now("tunevane_evaluation_documents_total").values()) == [4.0 * len(INDEX)]
    assert list(server.now('tunevane_evaluation_seconds_count{step="encode"}').values()) == [4.0]
    assert server.has('tunevane_evaluation_cache_hits_total{cache="features"} > 0')
    assert list(server.now("tunevane_evaluation_queue_depth").values()) == [0.0]
    assert list(server.now("sum(tunevane_trainer_worker_starts_total)").values()) == [1.0]
    assert list(server.now("sum(tunevane_trainer_worker_restarts_total)").values()) == [0.0]
    services = {dict(labels)["service"] for labels in server.now("tunevane_build_info")}
    assert services == {"trainer", "evaluator", "tracker"}


def test_log_lines_of_evaluations_name_run_and_epoch(scraped: Scraped) -> None:
    lines = [line for line in scraped.log.splitlines() if " tunevane.evaluator evaluated " in line]
    assert len(lines) == 4
    for epoch, line in enumerate(lines):
        words = dict(word.split("=", 1) for word in line.split() if "=" in word)
        assert words["run"].startswith("runs/")
        assert words["epoch"] == str(epoch)
        assert words["documents"] == str(len(INDEX))
        assert float(words["encode_seconds"]) > 0


def test_the_run_is_exported_from_the_tracker_of_this_machine(scraped: Scraped, tmp_path: Path) -> None:
    words = ["tracker", "export", scraped.run.name, "--output", str(tmp_path / "run.jsonl")]
    done = subprocess.run(
        [sys.executable, "-m", "tunevane", *words], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    exported = [event.SerializeToString(deterministic=True) for event in jsonl.read(tmp_path / "run.jsonl")]
    assert exported == [event.SerializeToString(deterministic=True) for event in scraped.run.events()]
