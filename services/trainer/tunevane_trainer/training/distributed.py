"""Several processes that train one model: each computes a share of every batch, and all take the same step.

Losses look at the whole batch, negatives of other processes included, and its gradients are those of one process with
the same batch. Process 0 leads: it measures, decides and commits, and tells the others what to do next.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import wraps
from typing import Any, ParamSpec, TypeVar, cast

import torch
from torch import distributed

from tunevane.errors import ConfigurationError
from tunevane_trainer.training.stopping import Stopped

P = ParamSpec("P")
T = TypeVar("T")

WAIT = timedelta(days=7)
"""A process that ends closes its connections, which the others see at once; whoever measures may take its time."""

_VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


class PeerLostError(Stopped):
    """Another process of the group has ended, so this one can only save what it has."""


def _with_peers(call: Callable[P, T]) -> Callable[P, T]:
    """Tells errors of the connections between processes from all others."""

    @wraps(call)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return call(*args, **kwargs)
        except RuntimeError as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
            raise PeerLostError(f"another process of this run has ended: {str(error).splitlines()[0]}") from error

    return wrapped


@dataclass
class Group:
    """The processes that share each batch; alone by default."""

    rank: int = 0
    """Number of this process; 0 leads."""

    size: int = 1
    """Processes of the group."""

    busy: bool = False
    """Whether the group is in an epoch, where the others expect no words."""

    @property
    def leads(self) -> bool:
        """Whether this process decides."""
        return self.rank == 0

    def offset(self, rows: int, rank: int | None = None) -> int:
        """Returns where a process's share of rows begins."""
        return (self.rank if rank is None else rank) * rows // self.size

    def share(self, positions: Sequence[int]) -> list[int]:
        """Returns this process's share of a batch; shares differ by one row at most and may be empty."""
        count = len(positions)
        return list(positions[self.offset(count) : self.offset(count, self.rank + 1)])

    def gather(self, vectors: torch.Tensor, rows: int) -> torch.Tensor:
        """Returns the vectors of the whole batch, `[rows, d]`, of the shares `[b, d]`.

        In the backward pass each share gets the gradient of its own rows, so the sum over all processes of the
        gradients of parameters is that of the whole batch.

        Raises:
            PeerLostError: Another process has ended.

        """
        if self.size == 1:
            return vectors
        sizes = [self.offset(rows, rank + 1) - self.offset(rows, rank) for rank in range(self.size)]
        # Any: torch's functions of this kind have no types.
        gathered: Any = cast("Any", _Gather).apply(vectors, sizes, self.rank)
        return cast("torch.Tensor", gathered)

    @_with_peers
    def any(self, flag: bool) -> bool:
        """Tells whether a flag is set in any process; all get the same answer."""
        if self.size == 1:
            return flag
        told = torch.tensor([int(flag)])
        distributed.all_reduce(told, op=distributed.ReduceOp.MAX, group=self._words)
        return bool(told.item())

    @_with_peers
    def add_up(self, model: Iterable[torch.nn.Parameter]) -> None:
        """Replaces the gradients of a model's parameters by their sums over all processes.

        A parameter that no process has a gradient of keeps none.
        """
        if self.size == 1:
            return
        trained = [each for each in model if each.requires_grad]
        has = torch.tensor([each.grad is not None for each in trained], dtype=torch.uint8)
        distributed.all_reduce(has, op=distributed.ReduceOp.MAX, group=self._words)
        used = [each for each, one in zip(trained, has.tolist(), strict=True) if one]
        flat = torch.cat([(torch.zeros_like(each) if each.grad is None else each.grad).reshape(-1) for each in used])
        distributed.all_reduce(flat)
        for each, summed in zip(used, torch.split(flat, [each.numel() for each in used]), strict=True):
            each.grad = summed.view_as(each)

    @_with_peers
    def agree(self, tensors: Iterable[torch.Tensor]) -> None:
        """Gives all processes the leader's values of tensors, in place."""
        if self.size == 1:
            return
        for tensor in tensors:
            values = tensor.detach().contiguous()
            distributed.broadcast(values, 0, group=self._words if values.device.type == "cpu" else None)
            if values.data_ptr() != tensor.data_ptr():
                with torch.no_grad():
                    tensor.copy_(values)

    def tell(self, words: Mapping[str, object], data: bytes = b"") -> None:
        """Tells the other processes what to do; nothing where there is none."""
        if self.size > 1:
            self._send(json.dumps(words).encode(), data)

    def hear(self) -> tuple[dict[str, Any], bytes]:
        """Waits for what the leader says: words, and data.

        Raises:
            PeerLostError: The leader has ended.

        """
        words, data = self._send(b"", b"")
        found: dict[str, Any] = json.loads(words)
        return found, data

    @_with_peers
    def _send(self, *parts: bytes) -> list[bytes]:
        found = []
        for part in parts:
            size = torch.tensor([len(part)])
            distributed.broadcast(size, 0, group=self._words)
            content = torch.zeros(int(size.item()), dtype=torch.uint8)
            if self.leads and part:
                content.copy_(torch.frombuffer(bytearray(part), dtype=torch.uint8))
            if len(content):
                distributed.broadcast(content, 0, group=self._words)
            found.append(content.numpy().tobytes())
        return found

    @property
    def _words(self) -> Any:  # Any: torch's groups have no common type
        return _words_group[0] if _words_group else None

    @contextmanager
    def epoch(self) -> Iterator[None]:
        """Marks an epoch; the mark stays where it ends by anything but a stop that all agreed on."""
        self.busy = True
        try:
            yield
        except Stopped as error:
            self.busy = isinstance(error, PeerLostError)
            raise
        self.busy = False


class _Gather(torch.autograd.Function):
    """Puts shares together; backward, each process takes the gradient of its own."""

    @staticmethod
    @_with_peers
    def forward(ctx: Any, own: torch.Tensor, sizes: Sequence[int], rank: int) -> torch.Tensor:  # Any: torch's context
        ctx.start, ctx.size = sum(sizes[:rank]), sizes[rank]
        most = max(sizes)
        padded = own.new_zeros((most, own.shape[1]), dtype=torch.float32)
        padded[: len(own)] = own
        parts = [torch.empty_like(padded) for _ in sizes]
        distributed.all_gather(parts, padded)
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)]).to(own.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        return gradients[0][ctx.start : ctx.start + ctx.size], None, None


_current: list[Group] = []
_words_group: list[Any] = []  # Any: torch's groups have no common type


def current() -> Group:
    """Returns the group of this process: itself alone unless one was joined."""
    return _current[0] if _current else Group()


@contextmanager
def joined(environ: Mapping[str, str] = os.environ) -> Iterator[Group]:
    """Joins the group that the environment names, as torchrun sets it: `RANK`, `WORLD_SIZE`, `MASTER_ADDR`, ...

    Raises:
        ConfigurationError: One of the variables is missing.

    """
    if int(environ.get("WORLD_SIZE", "1")) == 1:
        yield Group()
        return
    missing = [name for name in _VARIABLES if not environ.get(name)]
    if missing:
        raise ConfigurationError(f"WORLD_SIZE is {environ['WORLD_SIZE']}, and {', '.join(missing)} is not set")
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(int(environ.get("LOCAL_RANK", "0")))
    distributed.init_process_group("nccl" if cuda else "gloo", timeout=WAIT)
    # Words travel between CPUs, so that waiting for them keeps no GPU busy.
    _words_group[:] = [distributed.new_group(backend="gloo", timeout=WAIT)] if cuda else []
    group = Group(distributed.get_rank(), distributed.get_world_size())
    _current[:] = [group]
    try:
        yield group
    finally:
        _current.clear()
        _words_group.clear()
        # Where another process has ended there is nobody to say goodbye to.
        if not group.busy:
            distributed.destroy_process_group()
