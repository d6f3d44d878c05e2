"""Registered models, and what becomes of a user's folder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from support.models import minilm, tiny
from tunevane import plugins
from tunevane.callback.components import component
from tunevane.core import bundles
from tunevane.errors import InvalidRequestError
from tunevane.nn import folders, models
from tunevane.nn.encode import Encoder
from tunevane.nn.inputs import Inputs
from tunevane.storage.blobs import BlobStore


def test_layers_are_cut() -> None:
    model = models.build(minilm(layers=2))
    layers = {name.split(".")[4] for name in model.state_dict() if ".encoder.layer." in name}
    assert layers == {"0", "1"}
    assert Encoder(model).encode(["a text"]).shape == (1, 384)


def test_the_longest_text_can_be_chosen() -> None:
    model = models.build(component("minilm", {"layers": 1, "max_seq_length": 8}))
    assert Inputs(model, ["word " * 50, "word"]).tokens.lengths.tolist() == [8, 3]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("minilm", {"layers": 0}, "must be in [1, 6], not 0"),
        ("minilm", {"layers": 7}, "must be in [1, 6], not 7"),
        ("minilm", {"max_seq_length": 1}, "must be in [4, 512], not 1"),
        ("minilm", {"layer": 3}, "did you mean 'layers'?"),
        ("minilmm", {}, "did you mean 'minilm'?"),
        ("sentence-transformers", {}, "needs the files of a folder"),
    ],
)
def test_what_cannot_be_built_is_refused(name: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        models.check(component(name, options), "model")
    assert message in str(caught.value)
    assert str(caught.value).startswith("model.")


def test_a_folder_becomes_a_bundle_and_a_model_again(tmp_path: Path) -> None:
    model = tiny(tmp_path)
    folder = tmp_path / "saved"
    model.save(str(folder))
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    store = BlobStore(tmp_path / "blobs")
    bundle = models.folder_bundle(folder, store)
    assert "modules.json" in {file.path for file in bundle.files}
    assert not any(file.path.endswith(".bin") for file in bundle.files)
    built = models.build(component("sentence-transformers", {}, {"folder": bundle}), store)
    np.testing.assert_array_equal(Encoder(built).encode(["a text"]), Encoder(model).encode(["a text"]))


@pytest.mark.parametrize(
    ("listing", "message"),
    [
        (None, "it has neither modules.json"),
        ("[1]", "cannot be read"),
        ("{", "cannot be read"),
        (json.dumps([{"type": "os.system"}]), "asks for the module 'os.system'"),
        (json.dumps([{"type": "my_code.Transformer"}]), "asks for the module 'my_code.Transformer'"),
        (json.dumps([{"type": "sentence_transformers.models.CNN"}]), "built are those"),
        (json.dumps([{"type": "sentence_transformers.models.Transformer"}]), "no .safetensors weights"),
    ],
)
def test_a_folder_that_is_no_model_is_refused(tmp_path: Path, listing: str | None, message: str) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    if listing is not None:
        (folder / "modules.json").write_text(listing)
    with pytest.raises(InvalidRequestError) as caught:
        models.folder_bundle(folder, BlobStore(tmp_path / "blobs"))
    assert message in str(caught.value)


def test_the_check_holds_for_files_that_somebody_else_sent(tmp_path: Path) -> None:
    store = BlobStore(tmp_path / "blobs")
    files = bundles.make({"modules.json": store.put_bytes(b'[{"type": "os.system"}]')})
    with pytest.raises(InvalidRequestError, match=r"os\.system"):
        models.build(component("sentence-transformers", {}, {"folder": files}), store)


def test_every_registered_model_tells_what_it_is() -> None:
    known = plugins.names("models")
    assert {"efficientnet-lite0", "minilm", "sentence-transformers", "two-towers"} <= set(known)
    for name in known:
        info = models.find(name)
        assert info.name == name
        assert info.summary.endswith(".")
        assert set(info.task.split(", ")) <= {"text-to-text", "image-to-image", "text-to-image"}


def test_a_model_of_the_hub_is_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    kept = tmp_path / "hub" / "models--owner--name"
    (kept / "refs").mkdir(parents=True)
    (kept / "refs" / "main").write_text("abc")
    tiny(tmp_path / "made").save(str(kept / "snapshots" / "abc"))
    folder = folders.from_hub("owner/name")
    assert folder == kept / "snapshots" / "abc"
    assert models.folder_bundle(folder, BlobStore(tmp_path / "blobs")).files
    with pytest.raises(
        InvalidRequestError, match="there is no folder owner/other, and it does not come from the hub: "
    ):
        folders.from_hub("owner/other")


@pytest.mark.parametrize(
    ("name", "is_one"),
    [("owner/name-1.5", True), ("minilm", False), ("./name", False), ("a/b/c", False), ("/a", False), ("a/..", False)],
)
def test_what_is_an_id_of_the_hub(name: str, is_one: bool) -> None:
    assert folders.is_hub_id(name) is is_one
