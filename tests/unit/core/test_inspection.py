"""What is said of a data set before it is used."""

from __future__ import annotations

from tunevane.core.dataset import from_labelled, from_pairs, from_scored
from tunevane.core.inspection import inspect, leaks


def test_pairs_are_counted_with_their_groups() -> None:
    found = inspect(from_pairs([("Katze", "cat"), ("chat", "cat"), ("Hund", "dog"), ("hund ", "hound")]))
    assert (found.kind, found.items, found.pairs, found.labels) == ("pairs", 7, 4, 3)
    assert (found.largest_label, found.single_labels, found.unlabelled) == (3, 0, 0)
    assert found.duplicates == 1, "Hund and 'hund ' are one content"
    assert found.longest_text == 5
    assert found.samples[0] == "Katze  ↔  cat"


def test_labels_of_one_item_only_are_counted() -> None:
    found = inspect(from_labelled([("a", 1), ("b", 1.0), ("c", "x")]))
    assert (found.labels, found.largest_label, found.single_labels) == (2, 2, 1)
    assert found.samples == ("a  [1]", "b  [1]", "c  [x]")


def test_scores_have_a_range() -> None:
    found = inspect(from_scored([("a", "b", 0.25), ("a", "c", -1.0)]))
    assert found.score_range == (-1.0, 0.25)
    assert found.samples[1] == "a  ↔  c  [-1]"


def test_a_leak_is_found_through_case_spaces_and_unicode_forms() -> None:
    train = from_labelled([("Crème  Brûlée", "x"), ("other", "y")])
    evaluation = from_labelled([("fresh", "a"), ("creme brulee", "b"), ("cre\u0300me bru\u0302le\u0301e", "c")])
    (leak,) = leaks(train, evaluation)
    assert leak.content == "cre\u0300me bru\u0302le\u0301e"
    assert leak.train_id == train.items[0].id
    assert leak.evaluation_id == evaluation.items[2].id
    assert leaks(train, from_labelled([("fresh", "a")])) == []
