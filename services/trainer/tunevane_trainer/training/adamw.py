"""AdamW that also remembers the parameters of a loss, which no checkpoint of the model holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch


class WithLoss(torch.optim.AdamW):
    """AdamW; its state has the values of parameters that are no part of the model."""

    def __init__(self, groups: Sequence[dict[str, Any]], own: Sequence[torch.nn.Parameter], lr: float) -> None:
        """Args: groups as torch takes them, which of their parameters belong to the loss, and the learning rate."""
        super().__init__(groups, lr=lr)
        members = [each for group in self.param_groups for each in group["params"]]
        place = {id(each): index for index, each in enumerate(members)}
        self._own = {place[id(each)]: each for each in own}

    def state_dict(self) -> dict[str, Any]:
        """Returns the state, with the values of the loss's parameters."""
        found = super().state_dict()
        for index, parameter in self._own.items():
            found["state"][index] = {**found["state"].get(index, {}), "value": parameter.detach()}
        return found

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores the state, and the values of the loss's parameters."""
        slots = {index: dict(each) for index, each in state_dict["state"].items()}
        with torch.no_grad():
            for index, parameter in self._own.items():
                value = slots.get(index, {}).pop("value", None)
                if value is not None:
                    parameter.copy_(value)
                if not slots.get(index, True):
                    del slots[index]
        super().load_state_dict({**state_dict, "state": slots})
