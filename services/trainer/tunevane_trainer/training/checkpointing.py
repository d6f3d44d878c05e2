"""Gradient checkpointing: activations are computed again in the backward pass instead of kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tunevane.errors import InvalidRequestError, Problem

if TYPE_CHECKING:
    import torch


def recompute_activations(model: torch.nn.Module) -> None:
    """Turns it on for all of a model's transformers; gradients stay the same to the bit.

    Source: Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016.

    Raises:
        InvalidRequestError: The model has nothing that can do it.

    """
    from transformers import PreTrainedModel

    able = [
        each for each in model.modules() if isinstance(each, PreTrainedModel) and each.supports_gradient_checkpointing
    ]
    if not able:
        raise InvalidRequestError(
            [
                Problem(
                    "training_options.gradient_checkpointing",
                    "no part of this model can compute its activations again; use micro_batch_size to save memory",
                )
            ]
        )
    for each in able:
        if hasattr(each, "activation_checkpointing_enable"):
            each.activation_checkpointing_enable({"use_reentrant": False})
        else:  # as transformers called it before
            each.gradient_checkpointing_enable({"use_reentrant": False})
