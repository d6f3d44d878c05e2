"""BERT on the CPU without padding: the tokens of a batch in one long row, matrices in oneDNN's own layout.

Texts of equal length share one attention; everything else works on tokens, wherever they stand. oneDNN is asked for
directly because torch multiplies float32 matrices with MKL, which takes 2.4 times as long on AMD's processors.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from tunevane.nn.tokens import Tokens

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sentence_transformers import SentenceTransformer

TILE_TOKENS = 512
"""Tokens that go through the feed-forward part at once, so that what lies between its two matrices stays in cache."""


def has_onednn() -> bool:
    """Tells whether this build of torch multiplies with oneDNN."""
    return bool(torch._C._has_mkldnn) and hasattr(torch.ops.mkldnn, "_linear_pointwise")


class _Linear:
    """A linear layer with its matrix laid out for one precision."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor, kind: torch.dtype) -> None:
        self._bias = bias.detach().to(kind)
        self._weight = weight.detach().to(kind).contiguous()
        self._packed: torch.Tensor | None = None
        if has_onednn():
            self._packed = torch.ops.mkldnn._reorder_linear_weight(self._weight, TILE_TOKENS)

    def __call__(self, x: torch.Tensor, *, gelu: bool = False) -> torch.Tensor:
        """Returns `x @ weight.T + bias`, `[t, n]`, after GELU where asked for."""
        if self._packed is None:
            y = functional.linear(x, self._weight, self._bias)
            return functional.gelu(y) if gelu else y
        made: torch.Tensor = torch.ops.mkldnn._linear_pointwise(
            x, self._packed, self._bias, "gelu" if gelu else "none", [], "none" if gelu else ""
        )
        return made


@dataclass(frozen=True)
class _Layer:
    """One layer of the model."""

    inputs: _Linear
    """To queries, keys and values, side by side."""

    output: _Linear
    """Behind the attention."""

    attention_norm: torch.nn.LayerNorm
    """Behind the first sum."""

    up: _Linear
    """First half of the feed-forward part."""

    down: _Linear
    """Second half of the feed-forward part."""

    norm: torch.nn.LayerNorm
    """Behind the second sum."""


def _affine(module: Any) -> tuple[torch.Tensor, torch.Tensor]:  # Any: a linear layer, with an adapter or without
    """Returns weight and bias of a linear layer, its adapter added."""
    if hasattr(module, "get_base_layer"):
        base = module.get_base_layer()
        delta = sum(module.get_delta_weight(name) for name in module.active_adapters)
        return base.weight + delta, base.bias
    return module.weight, module.bias


class PackedBert:
    """A view of a model's BERT and pooling that encodes packed tokens; made anew when the weights change."""

    def __init__(self, modules: Sequence[Any], kind: torch.dtype) -> None:
        """Lays the weights out.

        Args:
            modules: The modules of a sentence-transformers model that `fits` has accepted.
            kind: float32 or bfloat16.

        """
        transformer, pooling, *rest = modules
        bert = transformer.model
        self._kind = kind
        self._heads: int = bert.config.num_attention_heads
        self._first_token_only = pooling.pooling_mode == "cls"
        self._rest = rest
        with torch.inference_mode():
            embeddings = bert.embeddings
            self._words = embeddings.word_embeddings.weight
            self._places = embeddings.position_embeddings.weight + embeddings.token_type_embeddings.weight[0]
            self._norm = embeddings.LayerNorm
            self._layers = [self._layer(layer) for layer in bert.encoder.layer]

    def _layer(self, layer: Any) -> _Layer:  # Any: transformers has no types here
        own = layer.attention.self
        parts = [_affine(each) for each in (own.query, own.key, own.value)]
        weight, bias = (torch.cat([part[side] for part in parts]) for side in (0, 1))

        def linear(module: Any) -> _Linear:
            return _Linear(*_affine(module), self._kind)

        return _Layer(
            _Linear(weight, bias, self._kind),
            linear(layer.attention.output.dense),
            layer.attention.output.LayerNorm,
            linear(layer.intermediate.dense),
            linear(layer.output.dense),
            layer.output.LayerNorm,
        )

    def __call__(self, tokens: Tokens, positions: Sequence[int]) -> torch.Tensor:
        """Encodes texts.

        Args:
            tokens: Token ids of the whole set.
            positions: Which texts, `b` of them; those of one length stand side by side.

        Returns:
            Vectors `[b, d]` in float32.

        """
        lengths = [tokens.length(position) for position in positions]
        # (length, how many texts have it), in order.
        groups = [(length, len(list(same))) for length, same in groupby(lengths)]
        ids = torch.from_numpy(tokens.take(positions))
        places = torch.cat([torch.arange(length) for length in lengths])
        x = functional.embedding(ids, self._words) + self._places[places]
        x = self._normalised(x, self._norm).to(self._kind)
        for layer in self._layers:
            mixed = layer.output(self._attention(layer.inputs(x), groups))
            x = self._normalised(mixed.add_(x), layer.attention_norm)
            x = torch.cat([self._feed_forward(layer, tile) for tile in torch.split(x, TILE_TOKENS)])
        features: dict[str, Any] = {"sentence_embedding": self._pooled(x, groups).float()}
        for module in self._rest:
            features = module(features)
        made: torch.Tensor = features["sentence_embedding"]
        return made

    def _feed_forward(self, layer: _Layer, x: torch.Tensor) -> torch.Tensor:
        return self._normalised(layer.down(layer.up(x, gelu=True)).add_(x), layer.norm)

    def _normalised(self, x: torch.Tensor, norm: torch.nn.LayerNorm) -> torch.Tensor:
        # Weights in the kind of the input: torch then sums in float32 all the same.
        weight, bias = norm.weight.to(x.dtype), norm.bias.to(x.dtype)
        return functional.layer_norm(x, norm.normalized_shape, weight, bias, norm.eps)

    def _attention(self, x: torch.Tensor, groups: Sequence[tuple[int, int]]) -> torch.Tensor:
        """Returns what each token gathers from its own text, `[t, h]`, from queries, keys and values `[t, 3 h]`."""
        width = x.shape[1] // 3
        gathered = torch.empty((len(x), width), dtype=x.dtype)
        start = 0
        for length, count in groups:
            end = start + length * count
            split = x[start:end].view(count, length, 3, self._heads, width // self._heads)
            query, key, value = split.permute(2, 0, 3, 1, 4)
            if x.dtype == torch.float32:
                mixed = functional.scaled_dot_product_attention(query, key, value)
            else:
                # torch's fused attention works in float32 inside; oneDNN's products of bfloat16 take 0.7 of its time.
                scores = torch.matmul(query, key.transpose(-1, -2)).mul_((width // self._heads) ** -0.5)
                mixed = torch.matmul(torch.softmax(scores, -1), value)
            gathered[start:end].view(count, length, self._heads, -1).copy_(mixed.transpose(1, 2))
            start = end
        return gathered

    def _pooled(self, x: torch.Tensor, groups: Sequence[tuple[int, int]]) -> torch.Tensor:
        pooled, start = [], 0
        for length, count in groups:
            end = start + length * count
            rows = x[start:end].view(count, length, -1)
            pooled.append(rows[:, 0].float() if self._first_token_only else rows.float().mean(1))
            start = end
        return torch.cat(pooled)


def fits(model: SentenceTransformer, modules: Sequence[Any]) -> bool:
    """Tells whether texts of a model can be encoded this way, with the same result.

    Args:
        model: The model.
        modules: Those of its modules that texts go through.

    """
    from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling, Transformer
    from transformers import BertModel

    if model.device.type != "cpu" or len(modules) < 2 or not isinstance(modules[0], Transformer):
        return False
    bert, pooling = modules[0].model, modules[1]
    if type(bert) is not BertModel or not isinstance(pooling, Pooling):
        return False
    config = bert.config
    simple = (
        config.hidden_act == "gelu"
        and not config.is_decoder
        and getattr(config, "position_embedding_type", "absolute") in (None, "absolute")
        and all(parameter.dtype == torch.float32 for parameter in bert.parameters())
    )
    plain = pooling.pooling_mode in ("mean", "cls") and (pooling.include_prompt or not model.default_prompt_name)
    return simple and plain and all(isinstance(module, Dense | Normalize) for module in modules[2:])
