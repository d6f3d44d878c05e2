"""Gradients of one batch: all of it at once, or a part at a time with the same result."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch

from tunevane.nn.device import arithmetic
from tunevane.nn.encode import is_out_of_memory
from tunevane_trainer.training.batches import Batch
from tunevane_trainer.training.distributed import Group
from tunevane_trainer.training.losses.info import Loss
from tunevane_trainer.training.state import random_state, restore_random_state
from tunevane_trainer.training.vectors import Reader


class Gradients:
    """Computes the loss of a batch and adds its gradients to the parameters."""

    def __init__(
        self,
        model: torch.nn.Module,
        loss: Loss,
        group: Group,
        device: torch.device,
        *,
        bf16: bool,
        rows: int | None,
        may_halve: bool,
        say: Callable[[str], None],
    ) -> None:
        """Chooses how much is computed at once.

        Args:
            model: The model under training.
            loss: The loss.
            group: The processes that share each batch.
            device: Where the model is.
            bf16: Whether texts are computed in bfloat16.
            rows: Rows of a batch that are computed at once; None for all.
            may_halve: Whether fewer are where the device lacks memory.
            say: Told when that happens.

        """
        self._model = model
        self._loss = loss
        self._group = group
        self._device = device
        self._bf16 = bf16
        self.rows = rows
        self._may_halve = may_halve
        self._say = say

    def value(self, read: Reader, batch: Batch) -> float:
        """Returns the loss of a batch, in this process alone and without gradients."""
        with torch.no_grad(), arithmetic(self._device, bf16=self._bf16):
            columns = [torch.cat([read(part) for part in _parts(positions, self.rows)]) for positions in batch.columns]
            return float(self._loss(columns, batch.labels.to(self._device)))

    def add(self, read: Reader, batch: Batch) -> float:
        """Returns the loss of a batch and adds its gradients to those of the parameters.

        Raises:
            torch.OutOfMemoryError: Not even one row at a time fits, or fewer rows may not be taken.
            PeerLostError: Another process of the group has ended.

        """
        while True:
            random = random_state(self._device) if self._may_halve else {}
            try:
                if self.rows is None or self.rows >= max(map(len, map(self._group.share, batch.columns))):
                    return self._at_once(read, batch)
                return self._in_parts(read, batch, self.rows)
            except RuntimeError as error:
                rows = self.rows or max(map(len, batch.columns))
                if not self._may_halve or rows == 1 or not is_out_of_memory(error):
                    raise
            # Outside the handler, which would keep the frames and what they hold.
            self.rows = (rows + 1) // 2
            self._model.zero_grad(set_to_none=True)
            if self._device.type == "cuda":
                torch.cuda.empty_cache()
            restore_random_state(random, self._device)
            self._say(f"The device lacks memory for {rows} rows at once, so it computes {self.rows} from now on")

    def _at_once(self, read: Reader, batch: Batch) -> float:
        with arithmetic(self._device, bf16=self._bf16):
            columns = [self._gathered(read, positions) for positions in batch.columns]
            loss = self._loss(columns, batch.labels.to(self._device))
        torch.autograd.backward(loss)
        return float(loss.detach())

    def _gathered(self, read: Reader, positions: Sequence[int]) -> torch.Tensor:
        own = self._group.share(positions)
        # A process without a share computes one row, so that there is something to send nothing of.
        vectors = read(own or positions[:1])[: len(own)]
        return self._group.gather(vectors, len(positions))

    def _in_parts(self, read: Reader, batch: Batch, rows: int) -> float:
        """Computes vectors without gradients, their gradients, and then each part again with gradients.

        Source: Gao et al., "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup", 2021.
        """
        chunks: list[tuple[int, int, list[int], dict[str, str]]] = []
        columns: list[torch.Tensor] = []
        with torch.no_grad(), _unchanging_statistics(self._model):
            for column, positions in enumerate(batch.columns):
                own = self._group.share(positions)
                found = []
                for start, part in zip(range(0, len(own), rows), _parts(own, rows), strict=False):
                    chunks.append(
                        (column, self._group.offset(len(positions)) + start, part, random_state(self._device))
                    )
                    found.append(self._vectors(read, part))
                vectors = torch.cat(found) if found else self._vectors(read, positions[:1])[:0]
                columns.append(self._group.gather(vectors, len(positions)).detach().requires_grad_())
        with arithmetic(self._device, bf16=self._bf16):
            loss = self._loss(columns, batch.labels.to(self._device))
        torch.autograd.backward(loss)
        for column, start, part, random in chunks:
            restore_random_state(random, self._device)
            gradients = columns[column].grad
            if gradients is not None:
                torch.autograd.backward(self._vectors(read, part), gradients[start : start + len(part)])
        return float(loss.detach())

    def _vectors(self, read: Reader, positions: Sequence[int]) -> torch.Tensor:
        # A context each: what autocast keeps of weights without gradients may not be used with them.
        with arithmetic(self._device, bf16=self._bf16):
            return read(positions)


def _parts(positions: Sequence[int], rows: int | None) -> list[list[int]]:
    size = len(positions) if rows is None else rows
    return [list(positions[start : start + size]) for start in range(0, len(positions), max(size, 1))]


@contextmanager
def _unchanging_statistics(model: torch.nn.Module) -> Iterator[None]:
    """Keeps batch normalisation from counting a batch that is computed twice."""
    layers = [each for each in model.modules() if isinstance(each, torch.nn.modules.batchnorm._BatchNorm)]
    before = [(layer, layer.momentum, layer.num_batches_tracked) for layer in layers]
    for layer in layers:
        layer.momentum = 0.0
        if layer.num_batches_tracked is not None:
            layer.num_batches_tracked = layer.num_batches_tracked.clone()
    try:
        yield
    finally:
        for layer, momentum, tracked in before:
            layer.momentum, layer.num_batches_tracked = momentum, tracked
