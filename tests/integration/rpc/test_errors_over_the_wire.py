"""Errors arrive as the class that was raised, and nothing unexpected leaks."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from support import faults
from support.server import running
from tunevane.errors import (
    CancelledError,
    ConfigurationError,
    DeadlineExceededError,
    InternalError,
    InvalidRequestError,
    TunevaneError,
    UnavailableError,
)
from tunevane.rpc.channel import connect, connect_async, wait_ready

KINDS = ("unary", "stream", "upload", "both")


@pytest.fixture(name="service", scope="module")
def _service() -> Iterator[tuple[faults.Faults, str]]:
    service = faults.Faults()
    with running(service.register) as target:
        yield service, target


@pytest.fixture(name="channel")
def _channel(service: tuple[faults.Faults, str]) -> Iterator[grpc.Channel]:
    with connect(service[1]) as channel:
        yield channel


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cls", faults.CLASSES, ids=lambda cls: cls.__name__)
def test_every_class_arrives_as_itself(channel: grpc.Channel, cls: type[TunevaneError], kind: str) -> None:
    sent = faults.make(cls)
    with pytest.raises(TunevaneError) as caught:
        faults.call(channel, kind, cls.__name__)
    assert type(caught.value) is cls
    assert caught.value.message == sent.message
    assert caught.value.details == sent.details
    if isinstance(sent, InvalidRequestError | ConfigurationError):
        assert caught.value.problems == sent.problems  # type: ignore[attr-defined]  # same class as sent


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cls", faults.CLASSES, ids=lambda cls: cls.__name__)
async def test_every_class_arrives_as_itself_in_asyncio(
    service: tuple[faults.Faults, str], cls: type[TunevaneError], kind: str
) -> None:
    async with connect_async(service[1]) as channel:
        with pytest.raises(TunevaneError) as caught:
            await _call_async(channel, kind, cls.__name__)
    assert type(caught.value) is cls
    assert caught.value.message == faults.make(cls).message


async def _call_async(channel: grpc.aio.Channel, kind: str, word: str) -> list[str]:
    request: Any = iter([faults.Text(value=word)]) if kind in ("upload", "both") else faults.Text(value=word)
    answer = faults.method(channel, kind)(request)
    if kind in ("stream", "both"):
        return [each.value async for each in answer]
    return [(await answer).value]


@pytest.mark.parametrize("kind", KINDS)
async def test_answers_arrive_in_both_clients(service: tuple[faults.Faults, str], kind: str) -> None:
    expected = ["first", "hello"] if kind == "stream" else ["hello"]
    async with connect_async(service[1]) as channel:
        assert await _call_async(channel, kind, "hello") == expected


@pytest.mark.parametrize("kind", KINDS)
def test_unexpected_exceptions_tell_an_id_and_no_text(
    channel: grpc.Channel, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    with caplog.at_level(logging.ERROR), pytest.raises(InternalError) as caught:
        faults.call(channel, kind, "unexpected")
    assert faults.SECRET not in str(caught.value)
    assert "ValueError" not in str(caught.value)
    lines = [each for each in caplog.records if caught.value.details["error_id"] in each.getMessage()]
    assert len(lines) == 1
    assert lines[0].exc_info is not None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("data", [b"\xff\xff\xff", b"\x0a\xff\xff\xff\xff\x0f", b"\x0a\x01\xff"])
def test_bytes_that_are_no_message_are_the_callers_error(channel: grpc.Channel, kind: str, data: bytes) -> None:
    with pytest.raises(InvalidRequestError, match="not the message"):
        faults.call(channel, kind, data)


def test_an_error_with_very_many_problems_still_arrives(channel: grpc.Channel) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        faults.call(channel, "unary", "big")
    assert caught.value.problems[0].field == "f0"


def test_a_message_over_the_limit_is_an_error_of_ours(channel: grpc.Channel) -> None:
    with pytest.raises(TunevaneError) as caught:
        faults.call(channel, "unary", "x" * (5 << 20))
    assert caught.value.code == "RESOURCE_EXHAUSTED"


def test_an_unknown_method_says_that_versions_may_differ(channel: grpc.Channel) -> None:
    method: Any = channel.unary_unary("/tunevane.test.Faults/nothing")
    with pytest.raises(TunevaneError, match="version"):
        method(b"")


def test_a_deadline_is_an_error_of_ours_and_stops_the_work(
    service: tuple[faults.Faults, str], channel: grpc.Channel
) -> None:
    service[0].cancelled.clear()
    with pytest.raises(DeadlineExceededError, match="more time"):
        faults.call(channel, "unary", "wait", timeout=0.2)
    assert service[0].cancelled.wait(5)


def test_a_stream_can_be_cancelled_from_the_outside(service: tuple[faults.Faults, str], channel: grpc.Channel) -> None:
    service[0].cancelled.clear()
    answers = faults.method(channel, "stream")(faults.Text(value="wait"))
    assert next(answers).value == "first"
    answers.cancel()
    with pytest.raises(CancelledError):
        next(answers)
    assert service[0].cancelled.wait(5)


@pytest.mark.parametrize(("kind", "most"), [("unary", 60.0), ("stream", 86_400.0), ("upload", 86_400.0)])
async def test_calls_without_a_deadline_get_one(
    service: tuple[faults.Faults, str], channel: grpc.Channel, kind: str, most: float
) -> None:
    service[0].remaining.clear()
    faults.call(channel, kind, "hello")
    async with connect_async(service[1]) as asynchronous:
        await _call_async(asynchronous, kind, "hello")
    assert len(service[0].remaining) == 2
    # A deadline travels with three digits or so, hence the hundredth.
    assert [0.98 * most < seconds < 1.01 * most for seconds in service[0].remaining] == [True, True], service[
        0
    ].remaining


def test_nobody_there_is_one_sentence_naming_the_target() -> None:
    with connect("127.0.0.1:1") as channel:
        with pytest.raises(UnavailableError, match=r"127\.0\.0\.1:1"):
            faults.call(channel, "unary", "hello")
        with pytest.raises(UnavailableError, match=r"127\.0\.0\.1:1"):
            wait_ready(channel, "127.0.0.1:1", 0.1)
