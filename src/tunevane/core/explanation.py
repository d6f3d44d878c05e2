"""Says in words why an epoch was kept, and why training stopped when it did."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from tunevane.core.monitor import direction, improves
from tunevane.core.numbers import decimals, fixed

KEEPER = "best-model-checkpoint"
"""Key of the callback whose word decides which epoch is kept."""

STOPPING = "Training is stopping, "
"""What the reason of a stop begins with."""


class Conclusion(Protocol):
    """What a callback concluded at an epoch end."""

    @property
    def epoch(self) -> int:
        """The epoch, from 1."""

    @property
    def callback(self) -> str:
        """The callback's key."""

    @property
    def verdict(self) -> str:
        """`improved`, `not_improved` (or with a blank), `stop`, or anything else for none."""

    @property
    def reason(self) -> str:
        """The callback's own sentence; may be empty."""

    @property
    def monitor(self) -> str:
        """Full name of the metric that was looked at."""

    @property
    def value(self) -> float | None:
        """Its value; None when nothing measured it."""

    @property
    def best_epoch(self) -> int:
        """The epoch that was the best then; 0 for callbacks that do not select, and before there was one."""


Naming = Callable[[str], str]
"""Gives the name under which a metric is shown."""


def short_names(names: Sequence[str]) -> dict[str, str]:
    """Leaves out what all names begin with, up to the last `_` of it: the model, mostly."""
    first, last = min(names, default=""), max(names, default="")
    # What the first and the last in order share, all share.
    shared = next((i for i, (one, other) in enumerate(zip(first, last, strict=False)) if one != other), len(first))
    cut = 0 if first == last else first[:shared].rfind("_") + 1
    return {name: name[cut:] for name in names}


def best_epoch(decisions: Sequence[Conclusion]) -> int:
    """Returns the epoch that the choosing callback holds for the best; 0 before any, and where no callback chooses."""
    for each in reversed([each for each in decisions if is_keeper(each)]):
        if each.best_epoch or each.verdict == "improved":
            return each.best_epoch or each.epoch
    return 0


def why_kept(decisions: Sequence[Conclusion], epochs: int, artifact_epoch: int = 0, named: Naming = str) -> str:
    """Says which epoch is kept and why; empty while there is nothing to say.

    Args:
        decisions: All of the run, in order.
        epochs: Epochs that have ended.
        artifact_epoch: The epoch whose weights the artifact holds; 0 while the run goes on.
        named: How metrics are called.

    """
    epoch = artifact_epoch or best_epoch(decisions)
    if not epoch:
        return ""
    switch = _switch(decisions, epoch)
    if switch is None:
        last = "the last one" if epoch == epochs else "which no callback chose"
        chooses = any(is_keeper(each) for each in decisions)
        return f"Kept epoch {epoch}, {last}, because no epoch {'qualified' if chooses else 'was to be chosen'}"
    sentence = f"{'Kept epoch' if artifact_epoch else 'Best so far is epoch'} {epoch} because "
    if switch.epoch != epoch:
        # A later look at all epochs changed the order: the callback's own sentence says how.
        return sentence + switch.reason[:1].lower() + switch.reason[1:]
    held = _held_before(switch, decisions)
    if held is None and switch.value is not None:
        sentence += f"{named(switch.monitor)} was {_texts(switch.value)[0]} there"
    else:
        sentence += _rise(switch, held, named)
    later = epochs - epoch
    if later == 1:
        sentence += f"; epoch {epochs} was no better"
    elif later > 1:
        sentence += f"; epochs {epoch + 1} {'and' if later == 2 else 'to'} {epochs} were no better"
    return sentence


def _switch(decisions: Sequence[Conclusion], epoch: int) -> Conclusion | None:
    """Finds the decision by which an epoch became the best the last time; None where none did."""
    found, best = None, 0
    for each in decisions:
        if not is_keeper(each):
            continue
        now = each.best_epoch or (each.epoch if each.verdict == "improved" else best)
        if now == epoch != best:
            found = each
        best = now
    return found


def why_stopped(decisions: Sequence[Conclusion]) -> str:
    """Says after which epoch training was stopped early and why; empty when it was not."""
    stops = [each for each in decisions if each.verdict == "stop"]
    if not stops:
        return ""
    stop = stops[0]
    reason = stop.reason.removeprefix(STOPPING) or f"{stop.callback} said so"
    return f"stopped after epoch {stop.epoch}: {reason}"


def why(decisions: Sequence[Conclusion], epochs: int, artifact_epoch: int = 0, named: Naming = str) -> str:
    """Says both in one sentence without a full stop; empty while there is nothing to say."""
    parts = [each for each in (why_kept(decisions, epochs, artifact_epoch, named), why_stopped(decisions)) if each]
    sentence = "; ".join(parts)
    return sentence[:1].upper() + sentence[1:]


def in_words(decision: Conclusion, decisions: Sequence[Conclusion], named: Naming = str) -> str:
    """Says what one callback concluded, compared with the epoch that it held for the best until then."""
    value, name = decision.value, named(decision.monitor)
    if decision.verdict == "stop":
        return decision.reason or "training stops"
    if value is None:
        return decision.reason or f"{name} was not measured"
    held = _held_before(decision, decisions)
    if decision.verdict == "improved":
        return _rise(decision, held, named)
    if held is None or held.value is None:
        return decision.reason or f"{name} is {_texts(value)[0]}"
    text, best = _texts(value, held.value)
    comparison = "equals" if value == held.value else f"{text} is no better than"
    return f"{name} {comparison} the {best} of epoch {held.epoch}"


def is_keeper(decision: Conclusion) -> bool:
    """Tells whether a decision is by the callback that chooses the epoch."""
    return decision.callback.partition("/")[0] == KEEPER


def _held_before(decision: Conclusion, decisions: Sequence[Conclusion]) -> Conclusion | None:
    """Finds the epoch that the same callback held for the best before this one."""
    mine = [
        each
        for each in decisions
        if each.callback == decision.callback and each.monitor == decision.monitor and each.epoch < decision.epoch
    ]
    held = 0
    for each in mine:
        held = each.best_epoch or (each.epoch if each.verdict == "improved" else held)
    return next((each for each in mine if each.epoch == held), None)


def _rise(decision: Conclusion, held: Conclusion | None, named: Naming) -> str:
    name, value = named(decision.monitor), decision.value
    if value is None:
        return decision.reason or f"{name} improved"
    if held is None or held.value is None:
        return f"{name} is {_texts(value)[0]}, the first that was measured"
    before, after = _texts(held.value, value)
    if not improves(value, held.value, direction(decision.monitor)):
        # The choice rests on estimates, which the value alone does not show.
        return f"{name} is estimated better than that of epoch {held.epoch}, {after} against {before} measured"
    return f"{name} {'rose' if value > held.value else 'fell'} from {before} to {after}"


def _texts(*values: float) -> list[str]:
    """Writes values with as many decimals as tell them apart."""
    apart = [abs(one - other) for one in values for other in values if one != other]
    places = decimals((*values, *apart), digits=1)
    return [fixed(value, places) for value in values]
