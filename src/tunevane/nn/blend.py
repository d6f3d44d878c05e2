"""Weights between those of two models of one shape."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from tunevane.errors import InvalidRequestError


def blend(
    pretrained: Mapping[str, torch.Tensor], finetuned: Mapping[str, torch.Tensor], alpha: float
) -> dict[str, torch.Tensor]:
    """Mixes two state dicts: `(1 - alpha) * pretrained + alpha * finetuned` for floating-point tensors.

    Integer and boolean tensors are the fine-tuned model's; alpha 0 and 1 copy floating-point tensors bit for bit.
    Source: Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022.

    Raises:
        InvalidRequestError: The two have different names or shapes; lists them.

    """
    wrong = sorted(set(pretrained) ^ set(finetuned))
    wrong += [name for name in pretrained if name in finetuned and pretrained[name].shape != finetuned[name].shape]
    if wrong:
        raise InvalidRequestError(f"the two models differ in names or shapes of: {', '.join(wrong[:10])}")
    mixed = {}
    for name, tuned in finetuned.items():
        if not tuned.is_floating_point() or alpha == 1:
            mixed[name] = tuned.clone()
        elif alpha == 0:
            mixed[name] = pretrained[name].clone()
        else:
            mixed[name] = (1 - alpha) * pretrained[name] + alpha * tuned
    return mixed
