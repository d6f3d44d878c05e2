"""A run that is measured while it trains, with kills at random instants, ends as one that nothing happens to."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator

import psutil
import pytest

import tunevane
from support.small_run import concluded, evaluation, fit
from support.stack import EVALUATOR, TRAINER, WORKER, kill, local_services, process
from support.words import QUERIES
from tunevane.callback import BestModelCheckpoint
from tunevane.local.stack import Stack
from tunevane.rpc.channel import connect, wait_ready

MOST_SECONDS = 0.5
"""About what an epoch takes, so a kill may fall into any part of it."""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    # A worker that is killed while its trainer restarts is missed when its lease ends.
    with local_services(tmp_path_factory.mktemp("home"), TUNEVANE_TRAINER_LEASE_SECONDS="5") as started:
        tunevane.connect()
        yield started


@pytest.mark.parametrize(
    ("victims", "kills"),
    [
        pytest.param((WORKER, EVALUATOR, TRAINER), 10, id="10-of-any"),
        pytest.param((WORKER,), 100, id="100-workers", marks=[pytest.mark.nightly, pytest.mark.timeout(3600)]),
        pytest.param((TRAINER,), 100, id="100-trainers", marks=[pytest.mark.nightly, pytest.mark.timeout(3600)]),
        pytest.param((EVALUATOR,), 100, id="100-evaluators", marks=[pytest.mark.nightly, pytest.mark.timeout(3600)]),
    ],
)
def test_kills_at_random_instants_change_nothing(
    stack: Stack, victims: tuple[tuple[str, ...], ...], kills: int
) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    sys.stdout.write(f"seed {seed}\n")
    dice = random.Random(seed)
    undisturbed = fit(epochs=kills + 6)
    assert undisturbed.wait() == "SUCCEEDED", undisturbed.logs()
    callbacks = [
        # The sample is all queries, and yet another plan: nothing is remembered from the other run.
        evaluation(asynchronous=True, query_sample_size=len(QUERIES) + kills),
        BestModelCheckpoint(monitor="reciprocal_rank"),
    ]
    run = fit(callbacks, epochs=kills + 6, max_restarts=2 * kills)
    killed: list[str] = []
    alive = False
    for event in run.events(follow=True):
        kind = event.WhichOneof("kind")
        alive = alive or kind == "run_started"
        if alive and kind == "epoch_ended" and len(killed) < min(event.epoch, kills):
            words = victims[len(killed) * len(victims) // kills]
            if words != WORKER:
                address = stack.trainer if words == TRAINER else stack.evaluator
                wait_ready(connect(address), address, 60)
            # Waiting for its end is how a moment passes in which it lives.
            psutil.wait_procs([process(stack, *words)], timeout=dice.uniform(0, MOST_SECONDS))
            kill(stack, *words)
            killed.append(words[-1])
            alive = words != WORKER
    # The last one to be killed may have been the trainer, a moment ago.
    wait_ready(connect(stack.trainer), stack.trainer, 60)
    assert run.status() == "SUCCEEDED", run.logs()
    assert len(killed) == kills
    assert concluded(run) == concluded(undisturbed)
    assert run.history().restarts >= killed.count(WORKER[-1])
    for kind in ("epoch_ended", "checkpoint_saved", "metrics_measured", "decision_made"):
        epochs = [event.epoch for event in run.events() if event.WhichOneof("kind") == kind]
        once = [epoch for epoch in epochs if epoch]
        assert sorted(set(once)) == list(range(1, kills + 7))
        # The metrics after the end are dated with the last epoch.
        assert len(once) == len(set(once)) + (kind == "metrics_measured")
