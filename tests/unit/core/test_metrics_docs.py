"""The examples of docs/metrics.md run, and its tables name the metrics that there are."""

import re
from pathlib import Path

import pytest

from tunevane.core.metrics import list_metrics

TEXT = (Path(__file__).parents[3] / "docs" / "metrics.md").read_text(encoding="utf-8")


def test_the_examples_run(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, object] = {}
    blocks = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    for block in blocks:
        exec(block, names)
    assert len(blocks) == 3
    assert re.fullmatch(
        r"with 200 queries, differences under \d\.\d points of ndcg@10 are noise\n", capsys.readouterr().out
    )


def test_every_metric_is_in_the_tables() -> None:
    for info in list_metrics():
        assert f"`{info.name}`" in TEXT, info.name
