"""What a registered loss says of itself, and how a request for one is checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from tunevane import plugins
from tunevane.core import specs
from tunevane.core.dataset import Kind
from tunevane.errors import InvalidRequestError, Problem

if TYPE_CHECKING:
    import torch

DEFAULT_FOR: dict[Kind, str] = {
    "pairs": "multiple-negatives-ranking",
    "items": "triplet-margin",
    "scored": "cosent",
}
"""The loss of a run that names none, by the kind of its training set."""

_SAID: dict[Kind, str] = {"items": "contents with labels", "pairs": "pairs", "scored": "pairs with scores"}


@dataclass(frozen=True)
class Space:
    """The vectors that a loss is about."""

    dim: int
    """Their dimensions."""

    classes: int
    """Different labels of the training set; 0 where it has none."""


class Loss(Protocol):
    """What `LossInfo.build` makes: a torch module, called once a batch."""

    def __call__(self, columns: Sequence[torch.Tensor], labels: torch.Tensor) -> torch.Tensor:
        """Returns a scalar.

        Args:
            columns: One matrix of vectors `[b, d]` for contents with labels, two for pairs.
            labels: Numbers of labels, or scores, `[b]`; zeros for pairs.

        """


@dataclass(frozen=True)
class LossInfo:
    """A registered loss, under the entry-point group `tunevane.losses`."""

    name: str
    """Registered name."""

    summary: str
    """One sentence."""

    kinds: tuple[Kind, ...]
    """Kinds of data sets that it can learn from."""

    options: type
    """Dataclass of its options."""

    build: Callable[[Any, Space], Loss]
    """Makes the loss of its options and the space of its vectors; Any: each loss has options of its own."""

    learns_labels: bool = False
    """Whether it learns something of each label, so that it knows those of the training set alone."""


def check(name: str, options: Mapping[str, object], kinds: Sequence[Kind], field: str) -> tuple[LossInfo, object]:
    """Finds a loss and reads its options.

    Args:
        name: Registered name; empty takes the default for the kind.
        options: By name.
        kinds: What the training set may be, as far as that is known; empty where nothing is.
        field: Path of the loss in the request, for messages.

    Raises:
        InvalidRequestError: Lists an unknown name, options that do not fit, or a training set that it cannot use.

    """
    name = name or (DEFAULT_FOR[kinds[0]] if len(kinds) == 1 else "")
    known = plugins.names("losses")
    if name not in known:
        raise InvalidRequestError([Problem(f"{field}.name", specs.unknown("loss", name, known))])
    info = plugins.load("losses", name)
    assert isinstance(info, LossInfo)
    found: list[Problem] = []
    if kinds and not set(kinds) & set(info.kinds):
        wanted = " or ".join(_SAID[kind] for kind in info.kinds)
        others = " or ".join(f"'{DEFAULT_FOR[kind]}'" for kind in kinds)
        held = " or ".join(_SAID[kind] for kind in kinds)
        found.append(
            Problem(f"{field}.name", f"'{name}' learns from {wanted}, and train_data holds {held}; use {others}")
        )
    made, wrong = specs.attempt(info.options, options, field)
    if found or wrong:
        raise InvalidRequestError([*found, *wrong])
    return info, made
