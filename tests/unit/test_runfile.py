"""Run files: what they mean, and one sentence with a line for everything that does not fit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tunevane import runfile
from tunevane.callback import BestModelCheckpoint, EvaluationCallback, WandBLogger
from tunevane.errors import InvalidRequestError

GOOD = """
model: minilm
model_options: {layers: 2}
train_data: train.csv
epochs: 3
learning_rate: 1.0e-4
callbacks:
  - evaluation: {query_data: queries.csv, index_data: sub/index.csv, limit: 10, metrics: [ndcg@10]}
  - best-model-checkpoint:
      monitor: ndcg@10
  - wandb-logger
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "run.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def problems(folder: Path, text: str) -> list[str]:
    with pytest.raises(InvalidRequestError) as caught:
        runfile.read(write(folder, text))
    return [str(problem).removeprefix(str(folder / "run.yaml")) for problem in caught.value.problems]


def test_a_file_is_the_arguments_of_fit(tmp_path: Path) -> None:
    assert runfile.read(write(tmp_path, GOOD)) == {
        "model": "minilm",
        "model_options": {"layers": 2},
        "train_data": str(tmp_path / "train.csv"),
        "epochs": 3,
        "learning_rate": 1e-4,
        "callbacks": [
            EvaluationCallback(
                query_data=str(tmp_path / "queries.csv"),
                index_data=str(tmp_path / "sub/index.csv"),
                limit=10,
                metrics=("ndcg@10",),
            ),
            BestModelCheckpoint(monitor="ndcg@10"),
            WandBLogger(),
        ],
    }


def test_a_name_of_a_pushed_data_set_stays_a_name(tmp_path: Path) -> None:
    assert runfile.read(write(tmp_path, "train_data: products-2026"))["train_data"] == "products-2026"
    (tmp_path / "products-2026").touch()
    assert runfile.read(write(tmp_path, "train_data: products-2026"))["train_data"] == str(tmp_path / "products-2026")


def test_a_model_folder_is_beside_the_file(tmp_path: Path) -> None:
    assert runfile.read(write(tmp_path, "train_data: a.csv\nmodel: ./mine"))["model"] == tmp_path / "mine"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("epochs: 3", [":1: train_data: is required"]),
        ("train_data: a.csv\nepocs: 3", [":2: epocs: unknown option 'epocs'; did you mean 'epochs'? "]),
        ("train_data: a.csv\nepochs: many", [":2: epochs: must be a whole number, not 'many'"]),
        ("train_data: a.csv\nprecision: fp16", [":2: precision: must be one of 'fp32', 'bf16', not 'fp16'"]),
        ("train_data: a.csv\ntrain_data: b.csv", [":2: train_data: is there already, in line 1"]),
        ("train_data: a.csv\ncallbacks: none", [":2: callbacks: must be a list of names with options, not 'none'"]),
        ("train_data: a.csv\ncallbacks:\n- wandb", [":3: callbacks[0]: unknown callback 'wandb'; known are: "]),
        (
            "train_data: a.csv\ncallbacks:\n- {early-stopping: {}, wandb-logger: {}}",
            [":3: callbacks[0]: must be one name, or one name with its options, not "],
        ),
        (
            "train_data: a.csv\ncallbacks:\n- early-stopping: 3",
            [":3: callbacks[0].early-stopping: must be a mapping of options, not 3"],
        ),
        (
            "train_data: a.csv\ncallbacks:\n- early-stopping:\n    patience: 0\n    min_delta: -1\n"
            "- evaluation: {limt: 1}",
            [
                ":4: callbacks[0].early-stopping.patience: must be at least 1, not 0",
                ":5: callbacks[0].early-stopping.min_delta: must be finite and at least 0, not -1",
                ":6: callbacks[1].evaluation.limt: unknown option 'limt'; did you mean 'limit'? ",
            ],
        ),
        ("- a\n- b", [": must be a mapping of keys like model, train_data and callbacks"]),
        ("", [": must be a mapping of keys like model, train_data and callbacks"]),
        ("train_data: [", [":1: is no YAML: expected the node content"]),
        ("train_data: !!python/object:os.system x", [":1: is no plain YAML: could not determine a constructor"]),
        ("a: &a [*a]", ["line 1: an alias that contains itself"]),
    ],
)
def test_what_does_not_fit_is_said_with_its_line(tmp_path: Path, text: str, expected: list[str]) -> None:
    found = problems(tmp_path, text)
    assert len(found) == len(expected)
    for sentence, beginning in zip(found, expected, strict=True):
        assert sentence.startswith(beginning)


def test_a_file_that_is_none_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequestError, match="cannot be read: no such file or directory"):
        runfile.read(tmp_path / "missing.yaml")
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"train_data: \xff")
    with pytest.raises(InvalidRequestError, match=r"is not UTF-8 text \(byte 12\)"):
        runfile.read(binary)
    large = tmp_path / "large.yaml"
    large.write_bytes(b"#" * (runfile.MAX_BYTES + 1))
    with pytest.raises(InvalidRequestError, match="data belongs into files of its own"):
        runfile.read(large)


def test_the_schema_knows_every_key_and_callback_with_its_sentence() -> None:
    schema = json.loads(json.dumps(runfile.schema()))
    properties = schema["properties"]
    assert schema["required"] == ["train_data"]
    assert all(each["description"] for each in properties.values())
    names, *described = properties["callbacks"]["items"]["anyOf"]
    assert set(names["enum"]) == {name for each in described for name in each["properties"]}
    evaluation = next(each for each in described if "evaluation" in each["properties"])["properties"]["evaluation"]
    assert evaluation["additionalProperties"] is False
    assert evaluation["properties"]["limit"]["description"].startswith("Results fetched per query")


def test_the_schema_takes_good_files_and_refuses_bad_ones() -> None:
    import jsonschema
    import yaml

    schema = runfile.schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    check = jsonschema.Draft202012Validator(schema)
    assert list(check.iter_errors(yaml.safe_load(GOOD))) == []
    for bad in ("epochs: 3", "train_data: a\nepocs: 1", "train_data: a\ncallbacks: [evaluation: {limt: 1}]"):
        assert list(check.iter_errors(yaml.safe_load(bad)))
