"""The demo's data: the counts that the documentation gives, and nothing held out is learned."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tunevane.storage import datasets

SCRIPT = Path(__file__).parents[3] / "examples" / "emoji_names" / "data.py"


@pytest.fixture(scope="module")
def data() -> ModuleType:
    spec = importlib.util.spec_from_file_location("emoji_names_data", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_counts(data: ModuleType) -> None:
    names = data.names()
    assert len(names) == 7962
    assert len({name.english for name in names}) == 1654


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_no_held_out_concept_occurs_in_training(data: ModuleType, seed: int) -> None:
    task = data.build(seed=seed)
    assert (len(task.train), len(task.queries), len(task.documents)) == (6000, 800, 1654)
    assert not {name.concept for name in task.train} & {name.concept for name in task.queries}
    assert not {name.english for name in task.train} & {name.english for name in task.queries}
    assert {name.english for name in (*task.train, *task.queries)} <= set(task.documents)
    for names in (task.train, task.queries):
        assert len({(name.text, name.english) for name in names}) == len(names)


def test_a_seed_repeats_the_split(data: ModuleType) -> None:
    assert data.build(seed=3) == data.build(seed=3)
    assert data.build(seed=3) != data.build(seed=4)


def test_queries_do_not_depend_on_the_number_of_pairs(data: ModuleType) -> None:
    assert data.build(pairs=500).queries == data.build(pairs=6000).queries


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("👨‍🍳", "👩‍🍳", True),
        ("👩‍🍳", "🧑‍🍳", True),
        ("🏃‍♀️", "🏃", True),
        ("🏃‍♂️‍➡️", "🏃", True),
        ("❤️", "❤", True),
        ("👨", "👩", False),
        ("♀️", "♂️", False),
        ("➡️", "⬅️", False),
        ("❤️‍🔥", "❤️", False),
    ],
)
def test_concepts(data: ModuleType, one: str, other: str, same: bool) -> None:
    assert (data.concept(one) == data.concept(other)) is same


def test_asking_for_too_much(data: ModuleType) -> None:
    with pytest.raises(ValueError, match=r"for de there are 1 to .* pairs and 1 to .* queries, not 6000 and 800"):
        data.build(languages=["de"])


def test_the_script_writes_files_that_are_read_as_meant(
    data: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--pairs", "512", "--queries", "200", "--languages", "de"]
    monkeypatch.setattr(sys, "argv", ["data.py", str(tmp_path / "out"), *arguments])
    data.main()
    assert "512 training pairs, 200 queries" in capsys.readouterr().out
    train, queries, index = (datasets.read(tmp_path / "out" / f"{name}.csv") for name in ("train", "queries", "index"))
    assert (train.kind, len(train.pairs)) == ("pairs", 512)
    assert (queries.kind, len(queries.items)) == ("items", 200)
    assert set(queries.labels) <= set(index.labels)
    assert index.labels == index.texts
    assert not {item.id for item in queries.items} & {item.id for item in index.items}
