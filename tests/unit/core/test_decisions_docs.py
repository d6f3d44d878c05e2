"""The example of docs/decisions.md runs, and its formulas and numbers are those of the code."""

import re
from pathlib import Path

import pytest

from tunevane.callback import BestModelCheckpoint, EarlyStopping
from tunevane.core import confidence, learning_curves, quality

TEXT = (Path(__file__).parents[3] / "docs" / "decisions.md").read_text(encoding="utf-8")


def test_the_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    exec(block, {})
    assert re.fullmatch(r"epoch 6; the ninth is better still with a chance of \d+%\n", capsys.readouterr().out)


def test_numbers_are_those_of_the_code() -> None:
    assert f"{learning_curves.CURVES:,} curves" in TEXT
    assert len(quality.JITTERS) * len(quality.DEVIATIONS) == 15
    assert "fifteen sizes" in TEXT
    assert f"as if {quality.STATIONARY_WEIGHT} more queries" in TEXT
    assert confidence.CANDIDATES == 4
    assert "the weights of the four epochs" in TEXT


def test_presets_and_defaults_are_named() -> None:
    for kind in (EarlyStopping, BestModelCheckpoint):
        assert f"{kind.__name__}.like_keras(...)" in TEXT
    defaults = EarlyStopping()
    assert (
        f"`EarlyStopping(monitor, patience={defaults.patience}, min_delta={defaults.min_delta}, "
        f"baseline={defaults.baseline}, check_finite={defaults.check_finite})`"
    ) in TEXT
    peers = (EarlyStopping.like_keras(), EarlyStopping.like_lightning("x"), EarlyStopping.like_transformers())
    assert [peer.patience for peer in peers] == [0, 3, 1]
