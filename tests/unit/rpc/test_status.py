"""Any error fits into metadata, and any status gives an error."""

from __future__ import annotations

import pytest
from google.rpc import status_pb2
from hypothesis import given
from hypothesis import strategies as st

from tunevane import errors
from tunevane.errors import InvalidRequestError, NotFoundError, Problem, ResourceExhaustedError, TunevaneError
from tunevane.rpc.status import MAX_STATUS_BYTES, from_status, to_status


@pytest.mark.parametrize("cls", list(errors.walk()), ids=lambda cls: cls.__name__)
def test_every_class_comes_back(cls: type[TunevaneError]) -> None:
    error = cls("one sentence", {"a": "b"})
    back = from_status(to_status(error))
    assert type(back) is cls
    assert (back.message, back.details) == (error.message, error.details)


def test_reasons_are_unique() -> None:
    reasons = [cls.reason for cls in errors.walk()]
    assert len(reasons) == len(set(reasons))


# Names of details are short words; what is longer than an error may be is cut, which has a test of its own.
SHORT = st.text(max_size=15)


@given(st.lists(st.tuples(SHORT, st.text(max_size=80)), max_size=5), st.dictionaries(SHORT, SHORT, max_size=5))
def test_problems_come_back_whatever_their_text(problems: list[tuple[str, str]], details: dict[str, str]) -> None:
    error = InvalidRequestError([Problem(*each) for each in problems], details)
    back = from_status(to_status(error))
    assert type(back) is InvalidRequestError
    assert back.details == details
    if problems:
        assert back.problems == error.problems


@pytest.mark.parametrize("text", ["ü" * 5_000, "𝄞" * 5_000, "\ud800" * 10])
def test_a_huge_error_is_cut_to_what_fits(text: str) -> None:
    problems = [Problem(text, text) for _ in range(200)]
    for error in (
        InvalidRequestError(problems, {f"{text[:50]}{number}": text for number in range(100)}),
        NotFoundError(text, {text: text}),
    ):
        status = to_status(error)
        assert status.ByteSize() <= MAX_STATUS_BYTES
        assert type(from_status(status)) is type(error)


@pytest.mark.parametrize("seconds", ["7", "0", "0.5", "-1", "inf", "nan", "soon", "1e300"])
def test_seconds_to_wait_never_break_the_answer(seconds: str) -> None:
    status = to_status(ResourceExhaustedError("busy", {"retry_after_seconds": seconds}))
    assert len(status.details) == (2 if seconds in ("7", "0", "0.5") else 1)
    assert from_status(status).details["retry_after_seconds"] == seconds


@given(st.integers(-5, 40), st.text())
def test_any_status_gives_an_error(code: int, message: str) -> None:
    assert isinstance(from_status(status_pb2.Status(code=code, message=message)), TunevaneError)
