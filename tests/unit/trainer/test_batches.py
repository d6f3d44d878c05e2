"""Batches: the same for seed and epoch, every row at most once, no false negatives."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunevane.core import dataset
from tunevane_trainer.training import batches
from tunevane_trainer.training.options import TrainingOptions


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("abcdefgh"), st.sampled_from("ABCDEFGH")), min_size=2, max_size=60),
    st.integers(2, 9),
    st.sampled_from(["auto", "shuffle", "per-label", "no-duplicates"]),
)
def test_an_epoch_shows_each_pair_at_most_once(pairs: list[tuple[str, str]], size: int, sampler: str) -> None:
    data = dataset.from_pairs(pairs)
    options = TrainingOptions(sampler=sampler)  # type: ignore[arg-type]  # one of them
    found = list(batches.epoch(data, size, 0, 1, options))
    assert len(found) == batches.count(data, size)
    shown = [tuple(data.texts[one] for one in pair) for batch in found for pair in zip(*batch.columns, strict=True)]
    assert all(shown.count(pair) <= pairs.count(pair) for pair in shown)
    assert len(pairs) - len(shown) < batches.MIN_BATCH


def test_a_batch_holds_a_label_once_where_that_can_be() -> None:
    data = dataset.from_pairs([(f"q{n % 8}", f"d{n % 8}") for n in range(64)])
    for batch in batches.epoch(data, 8, 0, 1):
        assert len(set(batch.columns[0])) == 8
    drawn = batches.epoch(data, 8, 0, 1, TrainingOptions(sampler="shuffle"))
    assert any(len(set(batch.columns[0])) < 8 for batch in drawn)


def test_items_may_be_drawn_without_a_label_twice() -> None:
    data = dataset.from_labelled([(f"text {n}", n % 8) for n in range(64)])
    for batch in batches.epoch(data, 8, 0, 1, TrainingOptions(sampler="no-duplicates")):
        assert len(set(batch.labels.tolist())) == 8


@pytest.mark.parametrize("per_label", [2, 4])
def test_a_batch_holds_so_many_of_each_label(per_label: int) -> None:
    data = dataset.from_labelled([(f"text {n}", n % 8) for n in range(64)])
    for batch in batches.epoch(data, 8, 0, 1, TrainingOptions(per_label=per_label)):
        labels = batch.labels.tolist()
        assert all(labels.count(label) % per_label == 0 for label in labels)


@pytest.mark.parametrize("number", [1, 2])
def test_the_same_seed_and_epoch_give_the_same_batches(number: int) -> None:
    data = dataset.from_labelled([(f"text {n}", n % 5) for n in range(50)])
    one, two, other = ([b.columns for b in batches.epoch(data, 8, seed, number)] for seed in (3, 3, 4))
    assert one == two != other
