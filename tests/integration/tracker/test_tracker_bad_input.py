"""Bad input over gRPC: refused with a sentence, or kept as it is; the tracker and its pages go on."""

from __future__ import annotations

import json
import math
import random
import re
import resource
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from support.tracker_events import numbered, whole_run
from support.tracker_service import NAME, UID, Served, tracker
from support.waits import eventually
from tunevane.api.tracker.v1 import tracker_service_pb2 as pb
from tunevane.api.type.v1.event_pb2 import STAGE_EPOCH, Event, LogWritten, MetricsMeasured, RunStarted, StepReported
from tunevane.api.type.v1.metric_pb2 import MetricSet
from tunevane.errors import (
    AlreadyExistsError,
    InvalidRequestError,
    ResourceExhaustedError,
    SequenceGapError,
    StaleWriterError,
    StorageFullError,
    TunevaneError,
)
from tunevane.rpc.channel import connect
from tunevane_tracker.config import TrackerConfig

RUN = whole_run()
METHOD = "/tunevane.api.tracker.v1.TrackerService/PublishEvents"


def settings(folder: Path) -> TrackerConfig:
    return TrackerConfig(port=0, http_port=0, state_dir=folder, wandb="off")


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with tracker(settings(tmp_path)) as running:
        yield running
        # Whatever came before: the tracker answers, stores and shows.
        assert running.publish(RUN[:3], uid="another-uid").acked_sequence == 3
        assert running.get("/healthz")[0] == 200
        assert running.get("/runs")[0] == 200


@pytest.mark.parametrize("sequences", [[0], [-1], [2, 1], [1, 1], [1, 3], [2**63 - 1, 2**63 - 1], [5, 2**63 - 1]])
def test_numbers_that_do_not_count_up_are_refused(served: Served, sequences: list[int]) -> None:
    with pytest.raises(InvalidRequestError, match=r"events\[\d\].sequence: must be"):
        served.publish([Event(sequence=number) for number in sequences])


def test_events_from_the_future_are_refused_with_the_number_to_go_on_from(served: Served) -> None:
    served.publish(RUN[:4])
    for event in (RUN[9], Event(sequence=2**62)):
        with pytest.raises(SequenceGapError, match="continue from 5") as gap:
            served.publish([event])
        assert gap.value.details["expected_sequence"] == "5"


def test_other_content_under_a_known_number_is_refused_and_counted(served: Served) -> None:
    served.publish(RUN[:4])
    other = [Event(sequence=3, log_written=LogWritten(text="something else")), *RUN[3:6]]
    with pytest.raises(AlreadyExistsError, match="event 3 of runs/some-run .* continue behind event 4") as conflict:
        served.publish(other)
    assert conflict.value.details == {"acked_sequence": "4", "conflicts": "1"}
    assert "tunevane_tracker_conflicts_total 1.0" in served.get("/metrics")[1]
    assert served.publish(RUN[4:6]).acked_sequence == 6


def test_of_two_publishers_the_one_that_started_later_goes_on(served: Served) -> None:
    def publish(first: int, last: int, epoch: int) -> pb.PublishEventsResponse:
        return served.stub.PublishEvents(
            pb.PublishEventsRequest(run=f"runs/{NAME}", uid=UID, events=RUN[first:last], writer_epoch=epoch)
        )

    assert publish(0, 3, 1).acked_sequence == 3
    assert publish(2, 5, 2).acked_sequence == 5
    with pytest.raises(StaleWriterError, match="this publisher has to stop"):
        publish(5, 8, 1)
    with pytest.raises(StaleWriterError):
        publish(0, 3, 1)
    assert publish(5, 8, 2).acked_sequence == 8


def test_late_events_of_a_deleted_run_do_not_reach_the_next_run_of_its_name(served: Served) -> None:
    served.publish(RUN[:4], uid="first-uid")
    served.publish(RUN[:2], uid="second-uid")
    served.publish(RUN[4:8], uid="first-uid")
    assert served.stub.GetTrackedRun(pb.GetTrackedRunRequest(run=f"runs/{NAME}")).acked_sequence == 2
    assert list(served.stub.ListEvents(pb.ListEventsRequest(run=f"runs/{NAME}")).events) == RUN[:2]


@pytest.mark.parametrize("run", ["", NAME, "runs/", "runs/../x", "runs/" + "a" * 10_000, "runs/a\0b-c", "runs/ünïcode"])
def test_hostile_run_names_are_refused(served: Served, run: str) -> None:
    with pytest.raises(InvalidRequestError, match="^run: ") as refused:
        served.stub.PublishEvents(pb.PublishEventsRequest(run=run, uid=UID, events=RUN[:1]))
    assert len(refused.value.message) < 400


def test_sizes_have_limits(served: Served) -> None:
    def event(size_bytes: int) -> Event:
        return Event(sequence=1, log_written=LogWritten(text="x" * size_bytes))

    with pytest.raises(InvalidRequestError, match=r"events\[0\]: an event has at most 1048576 bytes, not 10485\d\d"):
        served.publish([event(1 << 20)])
    with pytest.raises(ResourceExhaustedError):
        served.publish([event(5 << 20)])
    with pytest.raises(InvalidRequestError, match="events: at most 1000 at a time, not 1001"):
        served.publish(numbered([Event() for _ in range(1001)]))
    assert served.publish([event((1 << 20) - 100)]).acked_sequence == 1
    assert served.publish([]).acked_sequence == 1


def test_bytes_that_are_no_message_are_the_callers_error(served: Served) -> None:
    draw = random.Random(5)
    with connect(served.target) as channel:
        # Without a serializer, which the stubs do not know, what is sent is bytes.
        call: Any = channel.unary_unary(METHOD)
        for _ in range(300):
            with pytest.raises(InvalidRequestError):
                call(draw.randbytes(draw.randrange(1, 200)))


def test_values_names_and_times_of_any_kind_are_kept_and_shown(served: Served) -> None:
    values = [math.nan, math.inf, -math.inf, 1e308, 5e-324, -0.0]
    hostile = ["__name__", "a b", "✨", 'x"} 1\n# EOF', "m" * 10_000, "<script>alert(1)</script>"]
    metrics = MetricSet(values=dict(zip([*hostile, *(f"metric_{n}" for n in range(3000))], values * 501)))
    events = [Event(run_started=RunStarted(epochs=2**31 - 1, batches_per_epoch=-1))]
    events += [
        Event(epoch=-1, step=-(2**63), step_reported=StepReported(batch=-1, loss=value, learning_rate=value))
        for value in values
    ]
    events += [Event(epoch=1, metrics_measured=MetricsMeasured(stage=STAGE_EPOCH, metrics=metrics))]
    for event, seconds in zip(numbered(events), [-(1 << 62), 1 << 62, 0, -1, 253_402_300_800, 1 << 40, 5, 6]):
        event.event_time.seconds = seconds
    served.publish(events, {"model": "m" * 1000, "epochs": 2})
    kept = served.stub.ListEvents(pb.ListEventsRequest(run=f"runs/{NAME}")).events
    assert [event.SerializeToString(deterministic=True) for event in kept] == [
        event.SerializeToString(deterministic=True) for event in events
    ]
    eventually(lambda: served.delivered("prometheus") == len(events))
    status, text = served.get("/metrics")
    assert status == 200
    found = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    assert 0 < len([sample for sample in found if sample.name == "tunevane_run_retrieval_score"]) < 100
    status, page = served.get(f"/runs/{NAME}")
    assert status == 200
    assert "<script>alert" not in page


def test_a_full_disk_is_told_and_events_are_taken_again_once_there_is_space(served: Served) -> None:
    def batch(first: int) -> list[Event]:
        return [Event(sequence=first + n, log_written=LogWritten(text="x" * 5000)) for n in range(50)]

    acked = served.publish(batch(1)).acked_sequence
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 << 20, before[1]))
    try:
        refusal = None
        while refusal is None:
            try:
                acked = served.publish(batch(acked + 1)).acked_sequence
            except StorageFullError as error:
                refusal = error
        assert re.search(r"tracker.sqlite is full: 25\d{4} bytes of events", refusal.message)
        assert served.get("/healthz")[0] == 200
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert served.publish(batch(acked + 1)).acked_sequence == acked + 50


def test_damage_is_named_in_the_health_and_the_rest_is_served(tmp_path: Path) -> None:
    with tracker(settings(tmp_path)) as served:
        for begin in range(0, len(RUN), 4):
            served.publish(RUN[begin : begin + 4])
        assert json.loads(served.get("/healthz")[1]) == {"status": "serving"}
    database = sqlite3.connect(tmp_path / "tracker.sqlite")
    database.execute("UPDATE batches SET content = zeroblob(9) WHERE first = 5")
    database.commit()
    database.close()
    with tracker(settings(tmp_path)) as served:
        kept = list(served.stub.ListEvents(pb.ListEventsRequest(run=f"runs/{NAME}")).events)
        assert kept == [*RUN[:4], *RUN[8:]]
        eventually(lambda: "detail" in json.loads(served.get("/healthz")[1]))
        assert served.get("/healthz")[0] == 200
        assert json.loads(served.get("/healthz")[1])["detail"] == (
            "4 events are lost until their trainer sends them again (runs/some-run 5 to 8)"
        )
        assert served.get(f"/runs/{NAME}")[0] == 200
        with pytest.raises(TunevaneError, match="continue from 5"):
            served.publish([Event(sequence=len(RUN) + 1)])
        assert served.publish(RUN[4:]).acked_sequence == len(RUN)
        assert list(served.stub.ListEvents(pb.ListEventsRequest(run=f"runs/{NAME}")).events) == RUN
        assert json.loads(served.get("/healthz")[1]) == {"status": "serving"}
