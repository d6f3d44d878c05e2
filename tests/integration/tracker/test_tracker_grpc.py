"""The tracker over real gRPC and HTTP: once each, without a gap, shown to Prometheus and to people."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from support.tracker_events import NDCG, whole_run
from support.tracker_service import NAME, UID, Served, eventually, tracker
from tunevane.api.tracker.v1 import tracker_service_pb2 as pb
from tunevane.api.type.v1.event_pb2 import Event
from tunevane.errors import ConfigurationError, InvalidRequestError, NotFoundError, SequenceGapError
from tunevane_tracker.config import TrackerConfig

RUN = whole_run()
CONFIG = {"model": "minilm", "loss": "cosent", "dataset": "d1", "epochs": 2, "callbacks": []}
EVIL = "<script>alert('x')</script>"


def settings(folder: Path) -> TrackerConfig:
    return TrackerConfig(port=0, http_port=0, state_dir=folder, wandb="off")


def listed(served: Served, size: int) -> list[Event]:
    events: list[Event] = []
    token = ""
    while True:
        request = pb.ListEventsRequest(run=f"runs/{NAME}", page_size=size, page_token=token)
        page = served.stub.ListEvents(request)
        events += page.events
        token = page.next_page_token
        if not token:
            return events


def samples(served: Served) -> dict[str, list[tuple[dict[str, str], float]]]:
    status, text = served.get("/metrics")
    assert status == 200
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def test_publish_duplicates_gap_and_restart(tmp_path: Path) -> None:
    with tracker(settings(tmp_path)) as served:
        first = served.publish(RUN[:4], CONFIG)
        assert first.acked_sequence == 4
        assert list(first.notices) == [f"View run at http://127.0.0.1:{served.http_port}/runs/{NAME}"]
        assert list(served.publish(RUN[4:6]).notices) == []
        assert served.publish(RUN[2:6]).acked_sequence == 6
        with pytest.raises(SequenceGapError) as gap:
            served.publish(RUN[8:])
        assert gap.value.details["expected_sequence"] == "7"
    with tracker(settings(tmp_path)) as served:
        last = served.publish(RUN[6:])
        assert last.acked_sequence == len(RUN)
        assert list(last.notices) == []
        assert listed(served, 3) == RUN
        eventually(lambda: served.delivered("prometheus") == len(RUN))


def test_a_repeated_call_gets_its_notices_again(tmp_path: Path) -> None:
    with tracker(settings(tmp_path)) as served:
        assert served.publish(RUN[:4]).notices == served.publish(RUN[:4]).notices != []


def test_wrong_requests_are_refused(tmp_path: Path) -> None:
    with tracker(settings(tmp_path)) as served:
        with pytest.raises(InvalidRequestError, match=r"events\[1\].sequence"):
            served.publish([RUN[0], RUN[2]])
        with pytest.raises(InvalidRequestError, match="uid"):
            served.publish(RUN[:1], uid="../x")
        with pytest.raises(InvalidRequestError, match="page_token"):
            served.stub.ListEvents(pb.ListEventsRequest(run=f"runs/{NAME}", page_token="-1"))
        with pytest.raises(NotFoundError):
            served.stub.GetTrackedRun(pb.GetTrackedRunRequest(run="runs/nobody-there"))


def test_metrics_parse_and_tell_the_run(tmp_path: Path) -> None:
    with tracker(settings(tmp_path)) as served:
        served.publish(RUN, CONFIG)
        served.publish(RUN[:2])
        eventually(lambda: served.delivered("prometheus") == len(RUN))
        found = samples(served)
    run_id = {"run_id": UID}
    about = {"name": NAME, "model": "minilm", "loss_fn": "cosent", "dataset": "d1"}
    assert found["tunevane_run_info"] == [(run_id | about, 1.0)]
    metric, k = NDCG.split("@")
    scores = {labels["phase"]: value for labels, value in found["tunevane_run_retrieval_score"]}
    assert scores == {"before": 0.5, "current": 0.52, "best": 0.52, "after": 0.52}
    assert found["tunevane_run_retrieval_score"][0][0] == run_id | {"metric": metric, "k": k, "phase": "before"}
    assert found["tunevane_run_train_steps_total"] == [(run_id, 6.0)]
    assert found["tunevane_run_early_stop_patience_left"] == [(run_id, 0.0)]
    states = {labels["state"] for labels, value in found["tunevane_run_state"] if value == 1.0}
    assert states == {"succeeded"}
    assert found["tunevane_tracker_events_total"] == [({}, float(len(RUN)))]
    assert found["tunevane_tracker_duplicates_total"] == [({}, 2.0)]
    assert not [name for name in found if name.endswith("_created")]


def test_pages_escape_what_comes_from_outside(tmp_path: Path) -> None:
    with tracker(settings(tmp_path)) as served:
        served.publish(whole_run(warning=EVIL), CONFIG | {"model": EVIL})
        for path in ("/runs", f"/runs/{NAME}", "/runs/<script>", f"/runs/{UID}"):
            status, text = served.get(path.replace("<", "%3C").replace(">", "%3E"))
            assert status == (404 if "<" in path else 200)
            assert EVIL not in text
        page = served.get(f"/runs/{NAME}")[1]
        assert "&lt;script&gt;" in page
        assert "Model improved to 0.52!" in page
        assert "<svg" in page
        assert "prefers-color-scheme" in page
        assert served.get("/healthz")[0] == 200
        assert served.get("/nothing")[0] == 404


def test_one_state_folder_has_one_tracker(tmp_path: Path) -> None:
    with tracker(settings(tmp_path)) as served:
        with pytest.raises(ConfigurationError, match="another tracker"), tracker(settings(tmp_path)):
            pass
        assert served.get("/healthz")[0] == 200
