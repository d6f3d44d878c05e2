"""How an epoch begins in several processes: the leader says which, and all take over its weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from tunevane_trainer.training import state
from tunevane_trainer.training.distributed import Group


def begin(
    group: Group,
    number: int,
    step: int,
    losses: Sequence[float],
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
) -> None:
    """Tells the other processes to train an epoch, and gives them weights and optimizer; they call it, too.

    Args:
        group: The processes.
        number: The epoch, from 1.
        step: Optimizer steps taken.
        losses: Losses of the epoch's batches that are done.
        model: The model under training.
        optimizer: Its optimizer.

    """
    if group.size == 1:
        return
    tensors, numbers = state.of(optimizer)
    if group.leads:
        layout = {name: [str(each.dtype).removeprefix("torch."), list(each.shape)] for name, each in tensors.items()}
        group.tell(
            {"do": "epoch", "number": number, "step": step, "losses": list(losses), "slots": layout, "numbers": numbers}
        )
    group.agree(model.state_dict().values())
    group.agree(tensors.values())
