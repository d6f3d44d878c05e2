"""The main job on this machine, with the real services: runs, and runs that something is killed in."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import pytest

import tunevane
from support.stack import EDGE, EVALUATOR, TRACKER, WORKER, kill, local_services
from support.words import INDEX, QUERIES, WORDS
from tunevane.api.type.v1 import event_pb2
from tunevane.callback import BestModelCheckpoint, EarlyStopping, EvaluationCallback, WandBLogger, WiSEFTCallback
from tunevane.errors import AlreadyExistsError, DataFormatError, InvalidRequestError, NotFoundError, RunFailedError
from tunevane.local.stack import Stack

TRAIN = [{"query": g, "document": e} for g, e in WORDS.items()] * 16


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with local_services(tmp_path_factory.mktemp("home")) as started:
        yield started


def fit(sample: int | None = None, **changes: object) -> tunevane.Run:
    """Starts a small run; a `sample` of at least all queries changes nothing but that nothing is remembered."""
    options: dict[str, object] = {
        "model": "minilm",
        "model_options": {"layers": 2, "max_seq_length": 16},
        "train_data": TRAIN,
        "eval_data": TRAIN[:16],
        "epochs": 4,
        "batch_size": 8,
        "learning_rate": 3e-4,
        "seed": 7,
        "callbacks": [
            EarlyStopping(monitor="reciprocal_rank", patience=2),
            WandBLogger(),
            EvaluationCallback(
                query_data=QUERIES, index_data=INDEX, limit=10, gather_examples=True, query_sample_size=sample
            ),
            BestModelCheckpoint(monitor="reciprocal_rank"),
        ],
    }
    return tunevane.fit(**(options | changes))  # type: ignore[arg-type]  # options by name


def decided(run: tunevane.Run) -> list[object]:
    """Everything a run concluded, to the bit: decisions, metrics of every epoch, the artifact's content."""
    history = run.history()
    epochs = [vars(epoch) for epoch in history.epochs]
    return [[vars(each) for each in history.decisions], epochs, history.artifact_epoch, run.artifact_id]


@pytest.fixture(scope="module")
def undisturbed(stack: Stack) -> tunevane.Run:
    run = fit(name="undisturbed")
    assert run.wait() == "SUCCEEDED", run.logs()
    return run


def test_the_log_tells_the_story_in_order(undisturbed: tunevane.Run) -> None:
    log = undisturbed.logs()
    assert list(undisturbed.stream_logs()) == log.splitlines()
    epochs = len(undisturbed.history().epochs)
    story = [
        *(f"Training [{epoch}/4] " for epoch in range(1, epochs + 1)),
        "INFO  Done ✨",
        "DEBUG Finetuning took 0 days, 0 hours ",
        "INFO  Metric: 'minilm_precision_at_k' before fine-tuning:  ",
        "INFO  Metric: 'minilm_dcg_at_k' before fine-tuning:  ",
        "INFO  Building the artifact ...",
        "INFO  Pushing artifact ...",
        f"INFO  Artifact pushed under ID '{undisturbed.artifact_id}'",
        "DEBUG Artifact size is ",
        "INFO  Finished 🚀",
    ]
    places = [log.find(line) for line in story]
    assert -1 not in places, log
    assert places == sorted(places)
    assert "Model improved from -inf to " in log
    assert log.count("View run at ") == 1
    assert log.splitlines()[-1] == "INFO  Finished 🚀"


def test_metrics_improve_and_describe_what_the_user_gets(undisturbed: tunevane.Run, tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    metrics = undisturbed.metrics()
    assert metrics["after"]["minilm_reciprocal_rank"] > metrics["before"]["minilm_reciprocal_rank"]
    folder = undisturbed.save_artifact(tmp_path)
    model = SentenceTransformer(str(folder), device="cpu")
    scores = model.encode([q["text"] for q in QUERIES]) @ model.encode([d["text"] for d in INDEX]).T
    ranks = (scores > np.diag(scores)[:, None]).sum(axis=1) + 1
    value = float((np.where(ranks <= 10, 1 / ranks, 0)).mean())
    assert metrics["after"]["minilm_reciprocal_rank"] == pytest.approx(value, abs=1e-9)
    written = json.loads((folder / "metrics.json").read_text())
    assert written["after"] == metrics["after"]
    assert json.loads((folder / "run.json").read_text())["name"] == "undisturbed"
    examples = undisturbed.example_results()
    queries = [[query["id"] for query in examples[stage]["minilm"]["queries"]] for stage in ("before", "after")]  # type: ignore[index]
    assert queries[0] == queries[1]
    assert len(queries[0]) == 5


def test_the_best_epoch_is_the_one_that_is_kept(undisturbed: tunevane.Run) -> None:
    history = undisturbed.history()
    values = [epoch.metrics["minilm_reciprocal_rank"] for epoch in history.epochs]
    assert history.artifact_epoch == 1 + values.index(max(values))
    assert history.after["minilm_reciprocal_rank"] == max(values)
    assert all("val_loss" in epoch.metrics for epoch in history.epochs)


def test_prometheus_and_the_page_know_the_run(undisturbed: tunevane.Run, stack: Stack) -> None:
    with urlopen(f"{stack.pages}/metrics") as response:
        families = response.read().decode()
    assert "tunevane_run_retrieval_score{" in families
    with urlopen(f"{stack.pages}/runs/undisturbed") as response:
        page = response.read().decode()
    assert "minilm_reciprocal_rank" in page


def test_displays_print_tables(undisturbed: tunevane.Run, capsys: pytest.CaptureFixture[str]) -> None:
    undisturbed.display_metrics()
    undisturbed.display_decisions()
    undisturbed.display_examples(k=2)
    shown = capsys.readouterr().out
    assert "before" in shown
    assert f"Kept epoch {undisturbed.history().artifact_epoch} because " in shown
    assert "ein " in shown


def in_the_middle(run: tunevane.Run, epoch: int) -> None:
    """Waits until the run is within an epoch."""
    for event in run.events(follow=True):
        if event.WhichOneof("kind") == "step_reported" and event.epoch == epoch:
            return
        assert event.WhichOneof("kind") != "run_ended", "the run was over before it was disturbed"


def measuring(run: tunevane.Run, epoch: int) -> None:
    """Waits until the run's evaluation of an epoch is under way."""
    for event in run.events(follow=True):
        if event.WhichOneof("kind") == "evaluation_reported" and event.epoch == epoch:
            return
        assert event.WhichOneof("kind") != "run_ended", "the run was over before it was disturbed"


@pytest.mark.parametrize(
    ("victim", "when"),
    [(EVALUATOR, measuring), (TRACKER, in_the_middle), (EDGE, in_the_middle)],
    ids=["evaluator", "tracker", "qdrant"],
)
def test_whatever_is_killed_the_run_ends_the_same(
    undisturbed: tunevane.Run, stack: Stack, victim: tuple[str, ...], when: Callable[[tunevane.Run, int], None]
) -> None:
    name = victim[-1].rpartition(".")[2]
    run = fit(name=f"without-{name}", sample=len(QUERIES) + len(name))
    when(run, 2)
    kill(stack, *victim)
    assert run.wait() == "SUCCEEDED", run.logs()
    assert decided(run) == decided(undisturbed)
    assert run.history().restarts == 0


def test_a_worker_that_is_always_lost_fails_the_run(stack: Stack) -> None:
    run = fit(max_restarts=0)
    in_the_middle(run, 1)
    kill(stack, *WORKER)
    assert run.wait() == "FAILED"
    assert "the worker was lost once; max_restarts allows 0" in run.failure_reason
    with pytest.raises(RunFailedError, match="lost once"):
        run.metrics()


def test_a_cancelled_run_stops_and_can_be_deleted(stack: Stack) -> None:
    run = fit(epochs=500)
    in_the_middle(run, 1)
    run.cancel()
    assert run.wait() == "CANCELLED"
    assert tunevane.get_run(run.name).status() == "CANCELLED"
    tunevane.delete_run(run.name)
    with pytest.raises(NotFoundError):
        tunevane.get_run(run.name)


def test_a_run_that_cannot_work_is_refused_with_everything_that_is_wrong(stack: Stack) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        fit(model="minilmm", loss="nope", callbacks=[EarlyStopping(monitor="mrr")], optimizer_options={"lr": -1.0})
    fields = {problem.field for problem in caught.value.problems}
    assert fields == {"model.name", "loss.name", "optimizer.lr", "callbacks[0].monitor"}
    with pytest.raises(DataFormatError, match="no file"):
        fit(train_data="missing.csv")
    with pytest.raises(AlreadyExistsError, match="choose another name"):
        fit(name="undisturbed")
    assert "undisturbed" in [run.name for run in tunevane.list_runs()]


def test_a_diverging_model_ends_the_run_with_a_sentence(stack: Stack) -> None:
    run = fit(learning_rate=1e9, epochs=2)
    status = run.wait()
    assert (status, run.failure_reason != "") in {("FAILED", True), ("SUCCEEDED", False)}
    assert "Traceback" not in run.logs()


def test_a_pushed_data_set_is_used_by_name(stack: Stack) -> None:
    tunevane.push_dataset("word-pairs", TRAIN)
    tunevane.push_dataset("word-pairs", TRAIN)
    assert [each.name for each in tunevane.list_datasets()] == ["word-pairs"]
    run = fit(train_data="word-pairs", epochs=1, callbacks=[])
    assert run.wait() == "SUCCEEDED", run.logs()


def test_wise_ft_with_alpha_0_gives_the_pretrained_model_back(stack: Stack) -> None:
    callbacks = [EvaluationCallback(query_data=QUERIES, index_data=INDEX, limit=10), WiSEFTCallback(alpha=0.0)]
    run = fit(epochs=1, callbacks=callbacks)
    assert run.wait() == "SUCCEEDED", run.logs()
    metrics = run.metrics()
    assert metrics["after"] == metrics["before"]
    assert run.history().epochs[0].metrics["minilm_reciprocal_rank"] != metrics["before"]["minilm_reciprocal_rank"]
    assert "Mixed pre-trained and fine-tuned weights with alpha 0" in run.logs()


def test_components_are_listed(stack: Stack) -> None:
    assert {"minilm", "sentence-transformers"} <= {each.name for each in tunevane.list_models()}
    assert "early-stopping" in {each.name for each in tunevane.list_callbacks()}
    assert "multiple-negatives-ranking" in {each.name for each in tunevane.list_losses()}
    assert "ndcg@k" in {each.name for each in tunevane.list_metrics()}


def tunevane_command(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tunevane", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)


def test_the_command_line_shows_a_run(undisturbed: tunevane.Run, tmp_path: Path) -> None:
    listed = tunevane_command("runs", "list", "--output", "json")
    assert {"name": "undisturbed", "status": "SUCCEEDED"} in json.loads(listed.stdout)
    assert (
        json.loads(tunevane_command("runs", "metrics", "undisturbed", "--output", "json").stdout)
        == undisturbed.metrics()
    )
    assert tunevane_command("runs", "logs", "undisturbed").stdout.strip() == undisturbed.logs()
    pulled = tunevane_command("runs", "pull", "undisturbed", "--directory", str(tmp_path))
    assert Path(pulled.stdout.strip()) == tmp_path / "undisturbed"


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (("runs", "get", "nobody"), 1, "there is no run 'runs/nobody'"),
        (("serve", "trainer", "--port", "99999"), 2, "must be in [0, 65535]"),
        (("serve", "evaluator", "--config", "nowhere.toml"), 2, "nowhere.toml"),
        (("serve", "local"), 2, "already"),
    ],
)
def test_a_wrong_command_gets_one_sentence(stack: Stack, words: tuple[str, ...], code: int, sentence: str) -> None:
    done = tunevane_command(*words)
    assert done.returncode == code
    assert sentence in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert "Traceback" not in done.stderr


def test_a_port_in_use_gets_one_sentence(stack: Stack, tmp_path: Path) -> None:
    port = stack.trainer.rpartition(":")[2]
    done = tunevane_command("serve", "trainer", "--port", port, "--state-dir", str(tmp_path))
    assert done.returncode == 2
    assert f"port {port} is in use" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_run_goes_on_after_all_services_were_stopped(tmp_path: Path, undisturbed: tunevane.Run) -> None:
    expected = decided(undisturbed)
    with local_services(tmp_path):
        tunevane.connect()
        run = fit(name="interrupted")
        in_the_middle(run, 2)
    with local_services(tmp_path):
        tunevane.connect()
        again = tunevane.get_run("interrupted")
        assert again.wait() == "SUCCEEDED", again.logs()
        assert decided(again) == expected
        kinds = [event.WhichOneof("kind") for event in again.events()]
        assert kinds.count("run_ended") == 1
        measured = [e for e in again.events() if e.WhichOneof("kind") == "metrics_measured"]
        assert [e.metrics_measured.stage for e in measured].count(event_pb2.STAGE_BEFORE) == 1
    tunevane.connect()


def test_an_interrupted_script_leaves_a_run_that_is_found_again(stack: Stack, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import tunevane\n"
        "pairs = [{'query': f'q {n}', 'document': f'd {n}'} for n in range(64)]\n"
        "run = tunevane.fit(train_data=pairs, epochs=500, batch_size=8, name='left-alone')\n"
        "print(run.name, flush=True)\n"
        "run.watch()\n"
    )
    process = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "left-alone"
    # It watches once it shows a line of the log. Earlier, Python itself may swallow the signal while it imports.
    assert process.stdout.readline()
    # What a terminal does at Ctrl-C: the signal goes to the whole foreground group.
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=60)
    run = tunevane.get_run("left-alone")
    assert run.status() in ("PENDING", "RUNNING")
    run.cancel()
    assert run.wait() == "CANCELLED"
