"""Plain torch modules as models: anything that maps pixels to vectors, found by its registered name."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from sentence_transformers.base.modality_types import Modality
from sentence_transformers.base.modules import InputModule

from tunevane.core import specs
from tunevane.errors import InvalidRequestError


class PlainModule(InputModule):
    """A torch module that takes pixels `[b, 3, s, s]` in [-1, 1] and returns vectors `[b, d]`.

    Only its registered name and options are saved with its weights, so a folder that holds one is opened where the
    package that registers it is installed; sentence-transformers also asks for `trust_remote_code=True`.
    """

    save_in_root = False

    def __init__(self, name: str, options: Mapping[str, object], network: torch.nn.Module, image_size: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # sentence-transformers has types in part
        self.registered_name = name
        self.options = dict(options)
        self.network = network
        self.image_size = image_size

    @property
    def modalities(self) -> list[Modality]:
        """What it reads."""
        return ["image"]

    def pixels(self, images: Sequence[Image.Image]) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """Returns images scaled to one size, `[b, 3, s, s]`."""
        size = (self.image_size, self.image_size)
        scaled = [np.asarray(image.convert("RGB").resize(size, Image.Resampling.BILINEAR)) for image in images]
        return np.ascontiguousarray(np.stack(scaled).transpose(0, 3, 1, 2))

    def preprocess(self, inputs: Sequence[Any], prompt: str | None = None, **kwargs: object) -> dict[str, Any]:
        """Makes the features of images, as `encode` of sentence-transformers asks for them."""
        opened = [Image.open(each) if isinstance(each, str | Path) else each for each in inputs]
        return {"pixel_values": torch.from_numpy(self.pixels(opened)), "modality": "image"}

    def forward(self, features: dict[str, Any], **kwargs: object) -> dict[str, Any]:
        """Adds `sentence_embedding`, `[b, d]`."""
        pixels = features["pixel_values"].float() / 127.5 - 1
        features["sentence_embedding"] = self.network(pixels.contiguous(memory_format=torch.channels_last))
        return features

    def get_embedding_dimension(self) -> int:
        """Returns d, found by one blank image."""
        was_training = self.network.training
        self.network.eval()
        with torch.no_grad():
            device = next((each.device for each in self.network.parameters()), torch.device("cpu"))
            width = self.network(torch.zeros(1, 3, self.image_size, self.image_size, device=device)).shape[-1]
        self.network.train(was_training)
        return int(width)

    def save(self, output_path: str, *args: object, **kwargs: object) -> None:
        """Writes name, options and weights."""
        about = {"name": self.registered_name, "options": self.options}
        Path(output_path, "config.json").write_text(json.dumps(about, indent=1), encoding="utf-8")
        tensors = {name: tensor.contiguous().clone() for name, tensor in self.network.state_dict().items()}
        save_file(tensors, Path(output_path, "model.safetensors"))

    @classmethod
    def load(cls, model_name_or_path: str, subfolder: str = "", *args: Any, **kwargs: Any) -> PlainModule:  # noqa: ARG003  # as the base class has it
        """Builds the registered module anew and loads its weights.

        Raises:
            InvalidRequestError: Nothing is registered under the name, or the weights are of something else.

        """
        from tunevane.nn import models

        folder = Path(model_name_or_path, subfolder)
        about = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        info = models.find(str(about["name"]))
        if info.network is None:
            raise InvalidRequestError(f"the model '{info.name}' is no plain torch module")
        options: object = specs.build(info.options, about["options"], "options")
        network = info.network(options)
        try:
            network.load_state_dict(load_file(folder / "model.safetensors"))
        except RuntimeError as error:
            raise InvalidRequestError(f"the weights in the folder are not those of '{info.name}': {error}") from error
        return cls(info.name, about["options"], network, info.image_size)
