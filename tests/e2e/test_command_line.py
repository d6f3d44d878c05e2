"""The command line on this machine with the real services: one run from a YAML file, and every command on it.

Golden transcripts hold what a person sees; numbers and times in them are masked.
"""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.stack import local_services
from tunevane.cli.main import main
from tunevane.local.stack import Stack

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "cli"
WORDS = {"Katze": "cat", "Hund": "dog", "Haus": "house", "Auto": "car", "Baum": "tree", "Fluss": "river"}

RUN = """
name: first-run
model: minilm
model_options: {layers: 1, max_seq_length: 16}
train_data: train.csv
epochs: 2
batch_size: 8
seed: 3
callbacks:
  - evaluation:
      query_data: queries.csv
      index_data: index.csv
      limit: 5
      gather_examples: true
      num_example_queries: 1
  - best-model-checkpoint: {monitor: reciprocal_rank}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("cli")
    rows = list(WORDS.items())
    (folder / "train.csv").write_text("query,document\n" + "".join(f"{g},{e}\n" for g, e in rows) * 4)
    (folder / "queries.csv").write_text("".join(f"ein {g},{e}\n" for g, e in rows))
    (folder / "index.csv").write_text("".join(f"{e},{e}\n" for e in WORDS.values()))
    (folder / "run.yaml").write_text(RUN)
    with local_services(folder / "home"):
        done = tunevane(folder, "runs", "create", "-f", "run.yaml")
        assert done.returncode == 0, done.stderr
        yield folder


@pytest.fixture(scope="module")
def stack(folder: Path) -> Stack:
    from tunevane import local

    return local.ensure()


@dataclass(frozen=True)
class Done:
    """What a command left behind."""

    returncode: int
    stdout: str
    stderr: str


def tunevane(folder: Path, *words: str) -> Done:
    """Runs a command in this process, which spares the start of an interpreter."""
    written, said = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(written), redirect_stderr(said):
        patch.chdir(folder)
        patch.setenv("COLUMNS", "120")
        patch.setattr(sys, "argv", ["tunevane", *words])
        try:
            main()
            code = 0
        except SystemExit as ended:
            code = int(ended.code or 0)
    return Done(code, written.getvalue(), said.getvalue())


def ok(folder: Path, *words: str) -> str:
    done = tunevane(folder, *words)
    assert done.returncode == 0, done.stderr
    return done.stdout


def masked(text: str) -> str:
    """Leaves the words and hides what differs from run to run."""
    text = re.sub(r"[0-9a-f]{32}", "<id>", text)
    text = re.sub(r"[+-]?\d+(\.\d+)?(e-\d+)?", "#", text)
    text = re.sub(r"━+|─+", "─", text)
    return "\n".join(line.rstrip() for line in re.sub(r" {2,}", "  ", text).splitlines()) + "\n"


def golden(name: str, text: str) -> None:
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(masked(text), encoding="utf-8")
    assert masked(text) == path.read_text(encoding="utf-8"), f"look at it, then: UPDATE_GOLDEN=1 pytest {__file__}"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("runs-list", ("runs", "list")),
        ("runs-get", ("runs", "get", "first-run")),
        ("runs-metrics", ("runs", "metrics", "first-run")),
        ("runs-decisions", ("runs", "decisions", "first-run")),
        ("runs-compare", ("runs", "compare", "first-run", "first-run", "--metric", "reciprocal_rank")),
        ("datasets-check", ("datasets", "check", "train.csv")),
    ],
)
def test_what_a_person_sees(folder: Path, name: str, words: tuple[str, ...]) -> None:
    golden(name, ok(folder, *words))


@pytest.mark.parametrize(
    "words",
    [
        ("runs", "list"),
        ("runs", "get", "first-run"),
        ("runs", "metrics", "first-run"),
        ("runs", "examples", "first-run"),
        ("runs", "decisions", "first-run"),
        ("runs", "compare", "first-run"),
        ("runs", "watch", "first-run"),
        ("runs", "logs", "first-run"),
        ("runs", "pull", "first-run", "--directory", "again"),
        ("runs", "cancel", "first-run"),
        ("datasets", "push", "some-words", "train.csv"),
        ("datasets", "delete", "some-words"),
        ("models",),
        ("losses",),
        ("callbacks",),
        ("metrics",),
        ("datasets", "list"),
        ("datasets", "check", "train.csv"),
        ("doctor",),
    ],
)
def test_every_result_can_be_json(folder: Path, words: tuple[str, ...]) -> None:
    done = tunevane(folder, *words, "--output", "json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found or words == ("datasets", "list")


def test_the_log_is_complete(folder: Path) -> None:
    log = ok(folder, "runs", "logs", "first-run")
    assert "INFO  Finished 🚀" in log
    assert ok(folder, "runs", "logs", "first-run", "--follow") == log


def test_examples_are_shown(folder: Path) -> None:
    assert "before" in ok(folder, "runs", "examples", "first-run", "--k", "2")


def test_the_model_is_pulled_and_evaluates_like_the_run_said(folder: Path) -> None:
    place = Path(ok(folder, "runs", "pull", "first-run", "--directory", "models").strip())
    after = json.loads(ok(folder, "runs", "metrics", "first-run", "--output", "json"))["after"]
    words = ("--query-data", "queries.csv", "--index-data", "index.csv", "--limit", "5", "--examples", "1")
    found = json.loads(ok(folder, "evaluate", str(folder / place), *words, "--output", "json"))
    assert {f"minilm_{name}": value for name, value in found["metrics"].items()} == pytest.approx(after, abs=1e-6)
    assert (found["queries"], found["documents"]) == (6, 6)
    assert len(found["examples"]) == 1
    golden("evaluate", ok(folder, "evaluate", str(folder / place), *words))


def test_options_win_over_the_file_and_end_in_a_second_run(folder: Path) -> None:
    words = ("--name", "second-run", "--epochs", "1", "--detach", "--output", "json")
    made = json.loads(ok(folder, "runs", "create", "-f", "run.yaml", *words))
    assert made["name"] == "second-run"
    assert tunevane(folder, "runs", "watch", "second-run").returncode == 0
    assert json.loads(ok(folder, "runs", "get", "second-run", "--output", "json"))["config"]["epochs"] == 1
    compared = ok(folder, "runs", "compare", "first-run", "second-run")
    assert compared.splitlines()[0].split() == ["metric", "first-run", "second-run"]
    assert json.loads(ok(folder, "runs", "delete", "second-run", "--output", "json")) == {"name": "second-run"}
    gone = tunevane(folder, "runs", "get", "second-run")
    assert (gone.returncode, gone.stdout) == (1, "")
    assert "second-run" in gone.stderr


def test_data_gets_a_name(folder: Path) -> None:
    ok(folder, "datasets", "push", "words", "train.csv")
    assert ok(folder, "datasets", "list").split() == ["name", "items", "words", "12"]
    ok(folder, "datasets", "delete", "words")
    assert ok(folder, "datasets", "list") == ""


def test_a_leak_ends_with_one(folder: Path) -> None:
    (folder / "leaky.csv").write_text("katze,cat\nein Hund,dog\n")
    done = tunevane(folder, "datasets", "check", "train.csv", "--against", "leaky.csv")
    assert done.returncode == 1
    golden("datasets-check-leak", re.sub(r"\(\S+ is \S+\)", "(<id> is <id>)", done.stdout))


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (("runs", "get", "no-such-run"), 1, "no-such-run"),
        (("runs", "create"), 2, "give --train-data, or a --file that names it"),
        (("runs", "create", "--train-data", "missing.csv"), 2, "missing.csv"),
        (("runs", "create", "-f", "missing.yaml"), 2, "missing.yaml cannot be read: no such file or directory"),
        (("runs", "create", "--train-data", "train.csv", "--index-data", "index.csv"), 2, "needs --query-data"),
        (("evaluate", "minilm", "--query-data", "queries.csv", "--distance", "near"), 2, "distance: must be one of"),
        (("evaluate", "minilmm", "--query-data", "queries.csv"), 2, "unknown model 'minilmm'; did you mean 'minilm'?"),
        (("runs", "compare", "first-run", "--metric", "beauty"), 2, "none of these runs measured that"),
        (("runs", "list", "--target", "127.0.0.1:1"), 1, "127.0.0.1:1"),
    ],
)
def test_a_mistake_is_a_sentence_and_a_code(folder: Path, words: tuple[str, ...], code: int, sentence: str) -> None:
    done = tunevane(folder, *words)
    assert done.returncode == code
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert sentence in re.sub(r"\s+", " ", done.stderr.replace("│", ""))


def test_it_is_a_program(folder: Path) -> None:
    words = [sys.executable, "-m", "tunevane", "runs", "get", "no-such-run"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("tunevane: ")
    assert len(done.stderr.splitlines()) == 1


def test_the_shell_completes_names(folder: Path) -> None:
    environment = os.environ | {
        "_TUNEVANE_COMPLETE": "complete_bash",
        "COMP_WORDS": "tunevane runs get fir",
        "COMP_CWORD": "3",
    }
    done = subprocess.run(
        [sys.executable, "-c", "import sys; sys.argv[0] = 'tunevane'; from tunevane.cli.main import main; main()"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.split() == ["first-run"]


def test_the_doctor_finds_the_services_well(folder: Path, stack: Stack) -> None:
    found = {each["what"]: each for each in json.loads(ok(folder, "doctor", "--output", "json"))}
    assert found["trainer"]["sentence"] == f"serving at {stack.trainer}"
    assert found["evaluator"]["standing"] == found["tracker"]["standing"] == "ok"
    done = tunevane(folder, "doctor", "--evaluator", "127.0.0.1:1")
    assert done.returncode == 1
    assert "✗ evaluator              127.0.0.1:1: nothing listens there; is the service running?" in done.stdout
