"""Runs that are mirrored to the stand-in of W&B, and what has to be there afterwards."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from support.tracker_events import whole_run
from support.wandb_server import WandbServer
from tunevane.api.type.v1.event_pb2 import STAGE_AFTER, STAGE_BEFORE, Event
from tunevane_tracker.config import TrackerConfig
from tunevane_tracker.sinks.wandb.rows import Rows

OPTIONS = {"metrics_logger_step": "batch"}
CONFIG = {"model": "minilm", "callbacks": [{"name": "wandb-logger", "options": OPTIONS}]}

EXAMPLES = {
    "minilm": {
        "queries": [
            {
                "id": "q1",
                "text": "a red apple",
                "results": [
                    {"id": "d1", "text": "apple, red", "score": 0.5, "relevant": True},
                    {"id": "d2", "text": "pear", "score": 0.25, "relevant": False},
                ],
            }
        ]
    }
}


def settings(folder: Path, server: WandbServer, **others: Any) -> TrackerConfig:
    """Returns the settings of a tracker that sends its runs to the stand-in, often."""
    return TrackerConfig(
        port=0,
        http_port=0,
        state_dir=folder,
        wandb_base_url=server.url,
        wandb_transmit_seconds=1.0,
        wandb_finish_seconds=10,
        **others,
    )


def with_examples(events: Sequence[Event]) -> Sequence[Event]:
    """Adds example results to the measurements before and after fine-tuning."""
    for event in events:
        if event.metrics_measured.stage in (STAGE_BEFORE, STAGE_AFTER):
            event.metrics_measured.shown_examples = json.dumps(EXAMPLES).encode()
    return events


def expected(events: Sequence[Event], options: Mapping[str, object] = OPTIONS) -> list[dict[str, Any]]:
    """Lists the rows that a run has to have; tables are left out."""
    rows = Rows(options)
    return [
        {**command.values, "_step": command.sequence}
        for event in events
        for command in rows.commands(event)
        if command.op == "row"
    ]


RUN = whole_run(3)
STEPS = [row["_step"] for row in expected(RUN)]
