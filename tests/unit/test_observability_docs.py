"""The page about observability names every family and every alert that there is, and no other."""

from __future__ import annotations

import re
from pathlib import Path

import yaml
from prometheus_client import CollectorRegistry

from dashboards.__main__ import FOLDER
from tunevane.rpc import metrics
from tunevane.storage.blobs import BlobStore
from tunevane_evaluator.observe import EvaluatorMetrics
from tunevane_tracker.book import Book
from tunevane_tracker.cursors import Cursors
from tunevane_tracker.delivery import Delivery
from tunevane_tracker.journal import Journal
from tunevane_tracker.sinks.prometheus import PrometheusSink, RunCollector, SinkCollector, TrackerMetrics
from tunevane_trainer.observe import TrainerCollector, TrainerMetrics
from tunevane_trainer.runs import Runs
from tunevane_trainer.store import RunStore

PAGE = (Path(__file__).parents[2] / "docs" / "observability.md").read_text(encoding="utf-8")


def test_every_family_is_named_and_nothing_else(tmp_path: Path) -> None:
    registry = metrics.registry("demo")
    metrics.CallMetrics(registry)
    EvaluatorMetrics(registry)
    TrainerMetrics(registry)
    TrackerMetrics(registry)
    runs = Runs(RunStore(tmp_path / "runs.sqlite"), BlobStore(tmp_path / "blobs"))
    journal = Journal(tmp_path / "tracker.sqlite", clock=lambda: 0.0)
    book, cursors = Book(journal), Cursors(journal)
    delivery = Delivery(PrometheusSink(book), journal, cursors)
    try:
        registry.register(TrainerCollector(runs, lambda: 0, 1, mirrored=True))
        registry.register(RunCollector(journal, book, lambda: 0.0))
        registry.register(SinkCollector([delivery], cursors, lambda: "off"))
        shown = names(registry)
    finally:
        delivery.close()
        journal.close()
        runs.close()
    # Names of settings and files begin like families; families are those between backquotes.
    named = set(re.findall(r"`((?:tunevane|grpc_server)_[a-z_]+)(?:\{[a-z_,]+\})?`", PAGE))
    assert named == shown


def names(registry: CollectorRegistry) -> set[str]:
    """Lists the families as users meet them; a counter's name ends in `_total`."""
    return {
        f"{family.name}_total" if family.type == "counter" else family.name
        for family in registry.collect()
        if family.name.startswith(("tunevane_", "grpc_"))
    }


def test_every_alert_is_explained() -> None:
    rules = yaml.safe_load((FOLDER.parent / "rules" / "tunevane.yaml").read_text(encoding="utf-8"))
    alerts = {rule["alert"] for group in rules["groups"] for rule in group["rules"]}
    table = PAGE[PAGE.index("## Alerts") : PAGE.index("## Dashboards")]
    explained = {
        name for cell in re.findall(r"^\| ([A-Z][\w, ]+) \|", table, re.MULTILINE) for name in cell.split(", ")
    }
    assert explained == alerts
