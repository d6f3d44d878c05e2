"""Expressions that are empty in some healthy runs give what they should where there is something to give."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from dashboards import built
from dashboards.parts import expressions
from support.programs import require

BOARD = json.loads(built()["tunevane-run.json"])
DECIDED = 'tunevane_run_last_decision_time_seconds{run_id="u1",callback="early_stopping",verdict="%s"}'
SERIES = {
    'tunevane_run_retrieval_score{run_id="u1",metric="ndcg",k="10",phase="before"}': 0.5,
    'tunevane_run_retrieval_score{run_id="u1",metric="ndcg",k="5",phase="before"}': 0.4,
    'tunevane_run_retrieval_score{run_id="u1",metric="mrr",phase="before"}': 0.3,
    'tunevane_run_retrieval_score{run_id="u2",metric="ndcg",k="10",phase="before"}': 0.9,
    'tunevane_run_retrieval_change{run_id="u1",metric="ndcg",k="10",phase="current",bound="low"}': -0.125,
    'tunevane_run_retrieval_change{run_id="u1",metric="ndcg",k="10",phase="current",bound="high"}': 0.25,
    'tunevane_run_retrieval_change{run_id="u1",metric="ndcg",k="10",phase="best",bound="high"}': 0.75,
    'tunevane_run_retrieval_change{run_id="u1",metric="mrr",phase="current",bound="low"}': 0.0625,
    DECIDED % "stop": 30,
    DECIDED % "not improved": 20,
    DECIDED % "improved": 10,
}


def asked(part: str) -> str:
    """Finds the one expression with a part, for the run `u1`."""
    (found,) = {expr for _, expr in expressions(BOARD) if part in expr}
    return found.replace("$run", "u1")


@pytest.mark.parametrize(
    ("expr", "metric", "k", "labels", "value"),
    [
        (asked('bound="low"'), "ndcg", "10", '{run_id="u1",metric="ndcg",k="10",phase="current",bound="low"}', 0.375),
        (asked('bound="high"'), "ndcg", "10", '{run_id="u1",metric="ndcg",k="10",phase="current",bound="high"}', 0.75),
        # A metric without a cut-off is shown whatever cut-off was chosen.
        (asked('bound="low"'), "mrr", "10", '{run_id="u1",metric="mrr",phase="current",bound="low"}', 0.3625),
        (asked('verdict="stop"'), "", "", '{run_id="u1",callback="early_stopping",verdict="stop"}', 30_000),
        (
            asked('verdict="not improved"'),
            "",
            "",
            '{run_id="u1",callback="early_stopping",verdict="not improved"}',
            20_000,
        ),
    ],
    ids=["low end", "high end", "without a cut-off", "stop", "not improved"],
)
def test_the_query_gives(tmp_path: Path, expr: str, metric: str, k: str, labels: str, value: float) -> None:
    filled = expr.replace("$metric", metric).replace("$k", k)
    test = {
        "interval": "1m",
        "input_series": [{"series": name, "values": f"{number}x10"} for name, number in SERIES.items()],
        "promql_expr_test": [
            {"expr": filled, "eval_time": "5m", "exp_samples": [{"labels": labels, "value": value}]},
        ],
    }
    file = tmp_path / "test.yaml"
    file.write_text(json.dumps({"evaluation_interval": "1m", "tests": [test]}))
    done = subprocess.run([require("promtool"), "test", "rules", file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
