"""Runs take turns by the seconds that they used; who comes later owes nothing and is owed nothing."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tunevane_evaluator.fair import FairQueue


def drain(queue: FairQueue[int], seconds: dict[str, float]) -> list[str]:
    order = []
    while (found := queue.pop()) is not None:
        order.append(found[0])
        queue.used(found[0], seconds[found[0]])
    return order


def test_equal_runs_take_turns() -> None:
    queue: FairQueue[int] = FairQueue()
    for run in ("a", "a", "a", "b", "b", "b"):
        queue.push(run, 0)
    assert drain(queue, {"a": 1, "b": 1}) == ["a", "b", "a", "b", "a", "b"]


def test_a_run_of_long_evaluations_gets_fewer_turns() -> None:
    queue: FairQueue[int] = FairQueue()
    for _ in range(3):
        queue.push("long", 0)
    for _ in range(6):
        queue.push("short", 0)
    assert drain(queue, {"long": 10, "short": 4})[:6] == ["long", "short", "short", "short", "long", "short"]


def test_who_comes_late_does_not_catch_up() -> None:
    queue: FairQueue[int] = FairQueue()
    for _ in range(100):
        queue.push("early", 0)
        assert queue.pop() is not None
        queue.used("early", 1)
    for _ in range(3):
        queue.push("early", 0)
        queue.push("late", 0)
    assert drain(queue, {"early": 1, "late": 1})[:4] == ["late", "early", "late", "early"]


def test_within_a_run_the_first_comes_first_and_who_leaves_is_gone() -> None:
    queue: FairQueue[int] = FairQueue()
    for number in range(4):
        queue.push("a", number)
    assert queue.remove("a", 1)
    assert not queue.remove("a", 1)
    assert not queue.remove("b", 1)
    assert len(queue) == 3
    assert [queue.pop() for _ in range(4)] == [("a", 0), ("a", 2), ("a", 3), None]


@given(st.lists(st.tuples(st.sampled_from("abcde"), st.integers(1, 9)), max_size=60))
def test_nobody_who_waits_falls_behind_by_more_than_a_turn(asked: list[tuple[str, int]]) -> None:
    queue: FairQueue[int] = FairQueue()
    for run, seconds in asked:
        queue.push(run, seconds)
    used = dict.fromkeys("abcde", 0)
    left = {run: sum(name == run for name, _ in asked) for run in used}
    while (found := queue.pop()) is not None:
        run, seconds = found
        # All came at once, so whoever is next has used no more than anybody who still waits.
        assert used[run] == min(used[name] for name, count in left.items() if count)
        left[run] -= 1
        used[run] += seconds
        queue.used(run, seconds)
    assert len(queue) == 0
    assert not any(left.values())
