"""The front door, awaited: one small run in an event loop that is never held up."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.stack import local_services
from tunevane import aio
from tunevane.callback import EvaluationCallback
from tunevane.errors import InvalidRequestError, NotFoundError
from tunevane.local.stack import Stack

WORDS = {"Katze": "cat", "Hund": "dog", "Haus": "house", "Auto": "car", "Baum": "tree", "Fluss": "river"}
QUERIES = [{"text": german, "label": english} for german, english in WORDS.items()]
INDEX = [{"text": english, "label": english} for english in WORDS.values()]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with local_services(tmp_path_factory.mktemp("home")) as started:
        yield started


async def beat(longest: list[float]) -> None:
    """Notes the longest time that the loop was held up."""
    before = time.perf_counter()
    while True:
        await asyncio.sleep(0.01)  # the measure itself, nothing is waited for
        now = time.perf_counter()
        longest.append(now - before)
        before = now


async def test_a_run_from_start_to_artifact(stack: Stack, tmp_path: Path) -> None:
    longest: list[float] = []
    heart = asyncio.create_task(beat(longest))
    run = await aio.fit(
        model="minilm",
        model_options={"layers": 1, "max_seq_length": 16},
        train_data=[{"query": german, "document": english} for german, english in WORDS.items()],
        epochs=1,
        callbacks=[EvaluationCallback(query_data=QUERIES, index_data=INDEX, limit=5, gather_examples=True)],
        name="awaited-run",
        target=stack.trainer,
    )
    lines = [line async for line in run.stream_logs()]
    assert lines[-1].endswith("Finished 🚀")
    assert "\n".join(lines) == await run.logs()
    assert await run.wait() == await run.status() == "SUCCEEDED"
    history, metrics = await run.history(), await run.metrics()
    assert metrics["after"] == history.after
    assert [each.epoch for each in history.epochs] == [1]
    assert await run.decisions() == []
    assert set(await run.example_results()) == {"before", "after"}
    assert (await run.save_artifact(tmp_path) / "modules.json").is_file()
    assert [each.name for each in await aio.list_runs(target=stack.trainer)] == ["awaited-run"]
    await run.cancel()
    await run.delete()
    with pytest.raises(NotFoundError):
        await aio.get_run("awaited-run", target=stack.trainer)
    heart.cancel()
    # Far above what threads of a busy machine cost, far below any of the calls.
    assert sorted(longest)[int(len(longest) * 0.99)] < 0.5


async def test_whoever_stops_reading_is_free_at_once(stack: Stack) -> None:
    run = await aio.fit(
        model="minilm",
        model_options={"layers": 1, "max_seq_length": 16},
        train_data=[{"query": german, "document": english} for german, english in WORDS.items()],
        epochs=1,
        target=stack.trainer,
    )
    stream = run.events(follow=True)
    async for _ in stream:
        break
    await asyncio.wait_for(stream.aclose(), 1.0)  # type: ignore[attr-defined]  # an asynchronous generator
    assert await run.wait() == "SUCCEEDED"


async def test_evaluations_and_mistakes_are_awaited_too(stack: Stack) -> None:
    found = await aio.evaluate(
        "minilm", query_data=QUERIES, index_data=INDEX, metrics=["recall@1"], target=stack.evaluator
    )
    assert list(found.metrics) == ["recall@1"]
    with pytest.raises(InvalidRequestError, match="train_data"):
        await aio.fit(train_data=object(), target=stack.trainer)
