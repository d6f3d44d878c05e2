"""What part of a model is trained: layers frozen by name, a linear head, LoRA adapters."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tunevane.errors import InvalidRequestError, Problem

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer

HEAD_SEED = 0
"""Heads and adapters begin with the same numbers wherever the model is built."""


@dataclass(frozen=True)
class TuningOptions:
    """Options that every model has."""

    freeze: tuple[str, ...] = ()
    """Beginnings of the names of layers that are not trained, for example `embeddings` or `encoder.layer.0`."""

    output_dim: int | None = None
    """Dimensions of a linear head behind the model; None leaves the model's own."""

    lora_rank: int | None = None
    """Rank of LoRA adapters, which are then trained in place of the layers that they sit on; None for none."""

    lora_alpha: int = 16
    """Adapters count `lora_alpha / lora_rank` times."""

    lora_targets: tuple[str, ...] = ("query", "value", "q_proj", "v_proj")
    """Ends of the names of the linear layers that get an adapter; those that a model lacks are passed over."""

    def problems(self) -> Iterator[Problem]:
        """Yields what is wrong with the options."""
        if self.output_dim is not None and not 1 <= self.output_dim <= 65536:
            yield Problem("output_dim", f"must be in [1, 65536], not {self.output_dim}")
        if self.lora_rank is not None and not 1 <= self.lora_rank <= 1024:
            yield Problem("lora_rank", f"must be in [1, 1024], not {self.lora_rank}")
        if self.lora_alpha < 1:
            yield Problem("lora_alpha", f"must be at least 1, not {self.lora_alpha}")
        if any(not name for name in (*self.freeze, *self.lora_targets)):
            yield Problem("freeze" if "" in self.freeze else "lora_targets", "has an empty name")


def tune(model: SentenceTransformer, options: TuningOptions) -> None:
    """Changes a model in place: first the head, then the adapters, then what is frozen.

    Raises:
        InvalidRequestError: A name fits no layer, or peft is not installed.

    """
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(HEAD_SEED)
        if options.output_dim is not None:
            add_head(model, options.output_dim)
        if options.lora_rank is not None:
            _adapt(model, options, options.lora_rank)
    if options.freeze:
        _freeze(model, options.freeze)


def head(width: int, output_dim: int) -> torch.nn.Module:
    """Makes a linear head without bias whose rows are orthogonal, which keeps angles about as they were."""
    import torch
    from sentence_transformers.sentence_transformer.modules import Dense

    made: torch.nn.Module = Dense(width, output_dim, bias=False, activation_function=torch.nn.Identity())
    weight = made.get_submodule("linear").get_parameter("weight")
    torch.nn.init.orthogonal_(weight)
    return made


def add_head(model: SentenceTransformer, output_dim: int) -> None:
    """Puts a linear head behind the model, before a last normalisation."""
    from sentence_transformers.sentence_transformer.modules import Normalize

    width = model.get_embedding_dimension()
    if width is None:
        raise InvalidRequestError([Problem("output_dim", "cannot be set: this model does not tell its dimensions")])
    modules = list(model.children())
    place = len(modules) - 1 if isinstance(modules[-1], Normalize) else len(modules)
    modules.insert(place, head(width, output_dim))
    for position, module in enumerate(modules):
        model._modules[str(position)] = module


def _transformers(model: SentenceTransformer) -> list[Any]:  # Any: models of transformers have no common type here
    from sentence_transformers.sentence_transformer.modules import Transformer

    return [module.model for module in model.modules() if isinstance(module, Transformer)]


def _adapt(model: SentenceTransformer, options: TuningOptions, rank: int) -> None:
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError:
        raise InvalidRequestError(
            [Problem("lora_rank", "needs peft, which is not installed here; run: pip install peft")]
        ) from None
    import torch

    adapted = False
    seen: set[str] = set()
    for inner in _transformers(model):
        linear = [name for name, module in inner.named_modules() if isinstance(module, torch.nn.Linear)]
        ends = {name.rpartition(".")[2] for name in linear}
        seen |= ends
        fitting = [
            target
            for target in options.lora_targets
            if any(name == target or name.endswith(f".{target}") for name in linear)
        ]
        if fitting:
            config = LoraConfig(r=rank, lora_alpha=options.lora_alpha, target_modules=fitting, lora_dropout=0.0)
            inject_adapter_in_model(config, inner)
            adapted = True
    if not adapted:
        raise InvalidRequestError(
            [
                Problem(
                    "lora_targets",
                    f"fit no linear layer of this model; its layers end in: {', '.join(sorted(seen)) or 'none'}",
                )
            ]
        )


def short_name(name: str) -> str:
    """Names a parameter as people do: `0.model.encoder.layer.3.bias` is `encoder.layer.3.bias`."""
    name = re.sub(r"^\d+\.sub_modules\.(\w+)\.\d+\.(?:model\.|network\.)?", r"\1.", name)
    return re.sub(r"^\d+\.(?:model\.|network\.)?", "", name)


def _freeze(model: SentenceTransformer, prefixes: tuple[str, ...]) -> None:
    import torch

    def fits(name: str, prefix: str) -> bool:
        return any(each == prefix or each.startswith(prefix.rstrip(".") + ".") for each in (name, short_name(name)))

    names = [name for name, _ in model.named_parameters()]
    idle = [prefix for prefix in prefixes if not any(fits(name, prefix) for name in names)]
    if idle:
        tops = sorted({short_name(name).partition(".")[0] for name in names})
        raise InvalidRequestError(
            [Problem("freeze", f"'{idle[0]}' begins the name of no layer; names begin with: {', '.join(tops)}")]
        )
    for name, parameter in model.named_parameters():
        if any(fits(name, prefix) for prefix in prefixes):
            parameter.requires_grad_(False)
    for module in model.modules():
        own = list(module.parameters(recurse=False))
        # The statistics of a frozen normalisation would go on changing, although nothing learns them.
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm) and not any(each.requires_grad for each in own):
            module.register_forward_pre_hook(_evaluate)


def _evaluate(module: torch.nn.Module, args: object) -> None:
    module.eval()


def merged(model: SentenceTransformer) -> SentenceTransformer:
    """Returns the model without adapters: they are added into the layers that they sit on, in a copy."""
    if not any("lora_A" in name for name, _ in model.named_modules()):
        return model
    from peft.tuners.tuners_utils import BaseTunerLayer

    plain = copy.deepcopy(model)
    for name, module in list(plain.named_modules()):
        if isinstance(module, BaseTunerLayer):
            module.merge()
            parent, _, own = name.rpartition(".")
            setattr(plain.get_submodule(parent), own, module.get_base_layer())
    for inner in _transformers(plain):
        inner.__dict__.pop("peft_config", None)
    return plain
