"""What Prometheus sees of the trainer: runs by state, workers, and how far the tracker's copy is behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import GaugeMetricFamily, Metric

from tunevane.api.trainer.v1 import run_pb2
from tunevane_trainer.runs import Runs

STATES: Mapping[int, str] = {
    number: name.removeprefix("RUN_STATE_").lower()
    for name, number in run_pb2.RunState.items()
    if number != run_pb2.RUN_STATE_UNSPECIFIED
}
"""Names of states, as `tunevane_trainer_runs` and the tracker's `tunevane_run_state` have them."""


class TrainerMetrics:
    """What is counted as it happens."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Registers the families."""
        self.starts = Counter("tunevane_trainer_worker_starts", "Workers started.", registry=registry)
        self.restarts = Counter(
            "tunevane_trainer_worker_restarts", "Workers started for a run that had one before.", registry=registry
        )
        self.lost = Counter(
            "tunevane_trainer_workers_lost", "Workers that ended before their run did.", registry=registry
        )
        self.mirror_errors = Counter(
            "tunevane_trainer_mirror_errors", "Times that the tracker could not be told.", registry=registry
        )


class TrainerCollector:
    """What is read from the runs at each scrape."""

    def __init__(self, runs: Runs, workers: Callable[[], int], max_workers: int, *, mirrored: bool) -> None:
        """Args: the runs, how many workers there are and may be, and whether runs are mirrored to a tracker."""
        self._runs = runs
        self._workers = workers
        self._max_workers = max_workers
        self._mirrored = mirrored

    def collect(self) -> Iterator[Metric]:
        """Yields the families; called by the HTTP server's threads."""
        counts, lag = self._runs.ask(lambda: (self._runs.store.count_by_state(), self._runs.store.unmirrored_events()))
        runs = GaugeMetricFamily("tunevane_trainer_runs", "Runs of the trainer, by state.", labels=["state"])
        for number, name in STATES.items():
            runs.add_metric([name], counts.get(number, 0))
        yield runs
        yield GaugeMetricFamily("tunevane_trainer_workers", "Workers that live.", self._workers())
        yield GaugeMetricFamily(
            "tunevane_trainer_workers_limit", "Workers that may live at the same time.", self._max_workers
        )
        if self._mirrored:
            yield GaugeMetricFamily(
                "tunevane_trainer_mirror_lag_events", "Events that the tracker has not acknowledged.", lag
            )
