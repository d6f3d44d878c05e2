"""Names follow the rule, and suggestions do."""

from __future__ import annotations

import random

import pytest

from tunevane.core import names
from tunevane.errors import InvalidRequestError


@pytest.mark.parametrize("name", ["abcd", "brisk-vane-4821", "a" * 63, "a---"])
def test_good_names(name: str) -> None:
    names.check(name, "run")


@pytest.mark.parametrize("name", ["", "abc", "a" * 64, "Abcd", "4abc", "-abc", "ab_cd", "abcd\n", "äbcd", "ab/cd"])
def test_bad_names_are_shown_with_one_that_would_work(name: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        names.check(name, "run")
    (problem,) = caught.value.problems
    assert problem.field == "run"
    assert repr(name) in problem.message
    assert "'emoji-names-2'" in problem.message


def test_suggestions_are_names_that_repeat_for_a_seed() -> None:
    generator, again = random.Random(5), random.Random(5)
    suggested = [names.suggest(generator) for _ in range(500)]
    assert suggested == [names.suggest(again) for _ in range(500)]
    assert len(set(suggested)) > 490
    for name in suggested:
        names.check(name, "run")
