"""Decisions that know the noise: early stopping and best-checkpoint selection with a `confidence`.

What the plain rules read off the measured means, these conclude from the values of every query:

- which epoch is best, from estimates of every epoch's true quality (`tunevane.core.quality`);
- whether stopping is premature, from the chance that the next epoch is better still;
- whether an epoch improved on an earlier one, from a paired bootstrap over queries.

Both are state machines: `step` maps a state and an epoch's values to the next state and what was concluded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from tunevane.core.decisions import Conclusion, EarlyStoppingRule, EarlyStoppingState, figure
from tunevane.core.epoch_values import EpochValues, Memory
from tunevane.core.evidence import Evidence, judge
from tunevane.core.monitor import Mode, improves, worst
from tunevane.core.quality import estimate
from tunevane.core.statistics import Floats

CANDIDATES = 4
"""Epochs whose weights are kept until it is known which of them is best."""


@dataclass(frozen=True)
class ConfidentStoppingState:
    """What early stopping with a confidence remembers."""

    plain: EarlyStoppingState = field(default_factory=EarlyStoppingState)
    """What the plain rule remembers."""

    over: int | None = None
    """Epochs that training went on for since patience ran out; None before that."""

    memory: Memory = field(default_factory=Memory)
    """The epochs."""

    reference: EpochValues | None = None
    """The best measured epoch so far; None before the first."""

    def to_json(self) -> dict[str, object]:
        """States the state."""
        reference = None if self.reference is None else self.reference.to_json()
        return {**asdict(self.plain), "over": self.over, "memory": self.memory.to_json(), "reference": reference}

    @staticmethod
    def from_json(stated: Mapping[str, Any]) -> ConfidentStoppingState:
        """Reads what `to_json` stated."""
        reference = stated["reference"]
        return ConfidentStoppingState(
            EarlyStoppingState(stated["best"], stated["wait"]),
            stated["over"],
            Memory.from_json(stated["memory"]),
            None if reference is None else EpochValues.from_json(reference),
        )


@dataclass(frozen=True)
class ConfidentStopping:
    """Goes on for a while after patience ran out, as long as the next epoch may well be better than the best.

    The plain rule counts as ever. When it would stop, this one goes on while the chance that the next epoch beats
    the best exceeds `1 - confidence`, for at most `patience` epochs, whatever they bring: training is never
    shorter than with the plain rule, and never longer by more than its patience.
    """

    plain: EarlyStoppingRule
    """The plain rule."""

    confidence: float
    """How sure one must be that the best has passed, and the level of intervals; in (0, 1)."""

    def step(
        self, state: ConfidentStoppingState, values: EpochValues, train_loss: float | None
    ) -> tuple[ConfidentStoppingState, Conclusion, Evidence | None]:
        """Takes one epoch.

        Returns:
            What to remember; what was concluded, where `improved` means proven by the bootstrap; and how the
            epoch stands against the baseline or the best before it, None where there is neither.

        Raises:
            InvalidRequestError: The queries are not as many as before.

        """
        rule = self.plain
        plain, counted = rule.step(state.plain, values.mean, train_loss)
        if plain is state.plain:
            # The training loss is not finite: nothing was looked at.
            return state, counted, None
        evidence = self._evidence(values, state.reference)
        proven = counted.verdict == "improved" and (evidence is None or evidence.standing == "improved")
        reference = state.reference
        if reference is None or improves(values.mean, reference.mean, rule.mode, rule.min_delta):
            reference = values
        memory = state.memory.add(values, _sign(rule.mode), [reference.epoch])
        over = state.over if state.over is None else state.over + 1
        if over is None and counted.verdict == "stop":
            over = 0
        after = ConfidentStoppingState(plain, over, memory, reference)
        if over is None:
            return after, Conclusion("improved" if proven else "not_improved", ""), evidence
        estimated = estimate(memory.measured, memory.queries, rule.min_delta)
        chance = float(estimated.chance[int(estimated.quality.argmax())])
        sure = counted.verdict == "stop" and chance <= 1.0 - self.confidence
        if sure or over >= rule.patience:
            return after, Conclusion("stop", self._why(after, chance)), evidence
        reason = f"Patience ran out, but the next epoch may be better ({chance:.0%}): training goes on"
        return after, Conclusion("improved" if proven else "not_improved", reason), evidence

    def patience_left(self, state: ConfidentStoppingState) -> int:
        """Counts the epochs that training surely goes on for without improvement."""
        return 0 if state.over is not None else self.plain.patience_left(state.plain)

    def _evidence(self, values: EpochValues, reference: EpochValues | None) -> Evidence | None:
        rule = self.plain
        if rule.baseline is not None:
            other = np.full(len(values.per_query), rule.baseline)
        elif reference is not None:
            other = reference.per_query
        else:
            return None
        return _judge(values, other, rule.mode, self.confidence, rule.min_delta)

    def _why(self, state: ConfidentStoppingState, chance: float) -> str:
        went_on = f", {state.over} more than patience allows" if state.over else ""
        epochs = f"Training is stopping, no improvement for {state.plain.wait} epochs{went_on}"
        if state.plain.wait < self.plain.patience:
            epochs = f"Training is stopping, {state.over} epochs after patience ran out"
        return f"{epochs}; the next would be better with a chance of {chance:.0%}"


@dataclass(frozen=True)
class ConfidentSelectionState:
    """What best-checkpoint selection with a confidence remembers."""

    epoch: int = 0
    """The epoch that is held to be best; 0 before the first."""

    memory: Memory = field(default_factory=Memory)
    """The epochs."""

    candidates: Mapping[int, EpochValues] = field(default_factory=dict)
    """Epochs that may still turn out to be best, by the slot that their weights are kept in."""

    @property
    def best(self) -> float | None:
        """Measured value of the epoch that is held; None before the first."""
        return next((each.mean for each in self.candidates.values() if each.epoch == self.epoch), None)

    def to_json(self) -> dict[str, object]:
        """States the state."""
        candidates = {str(slot): values.to_json() for slot, values in sorted(self.candidates.items())}
        return {"epoch": self.epoch, "best": self.best, "memory": self.memory.to_json(), "candidates": candidates}

    @staticmethod
    def from_json(stated: Mapping[str, Any]) -> ConfidentSelectionState:
        """Reads what `to_json` stated."""
        candidates = {int(slot): EpochValues.from_json(each) for slot, each in stated["candidates"].items()}
        return ConfidentSelectionState(stated["epoch"], Memory.from_json(stated["memory"]), candidates)


@dataclass(frozen=True)
class Selection:
    """What selection with a confidence makes of an epoch."""

    conclusion: Conclusion
    """`improved` where the epoch is now held to be the best of all."""

    estimate: float
    """Estimated true value of the epoch."""

    slot: int | None
    """Where its weights are kept, from 0, in place of what was there; None where they need not be kept."""

    evidence: Evidence | None
    """How it stands against the epoch that was held before; None where there was none."""


@dataclass(frozen=True)
class ConfidentSelection:
    """Holds the epoch with the best estimated quality; later epochs may show that an earlier one is it.

    The weights of the `CANDIDATES` epochs with the best estimates are kept, so that a change of mind is possible.
    """

    mode: Mode
    """Which way is better."""

    confidence: float
    """Level of intervals, in (0, 1)."""

    min_delta: float = 0.0
    """What an estimate has to be better by than that of the epoch that is held."""

    def step(self, state: ConfidentSelectionState, values: EpochValues) -> tuple[ConfidentSelectionState, Selection]:
        """Takes one epoch.

        Raises:
            InvalidRequestError: The queries are not as many as before.

        """
        sign = _sign(self.mode)
        held = next((each for each in state.candidates.values() if each.epoch == state.epoch), None)
        evidence = None
        if held is not None:
            evidence = _judge(values, held.per_query, self.mode, self.confidence, self.min_delta)
        memory = state.memory.add(values, sign, [each.epoch for each in state.candidates.values()])
        estimated = estimate(memory.measured, memory.queries)
        quality = {each.epoch: float(value) for each, value in zip(memory.measured, estimated.quality, strict=True)}
        contenders = sorted([*(each.epoch for each in state.candidates.values()), values.epoch])
        leader = max(contenders, key=quality.__getitem__)
        best = state.epoch
        if held is None or quality[leader] - self.min_delta > quality[best]:
            best = leader
        candidates = dict(state.candidates)
        slot = self._slot(candidates, values.epoch, best, quality)
        if slot is not None:
            candidates[slot] = values
        reason = self._reason(state.epoch, best, values.epoch, {e: sign * q for e, q in quality.items()})
        conclusion = Conclusion("improved" if best == values.epoch else "not_improved", reason)
        after = ConfidentSelectionState(best, memory, candidates)
        return after, Selection(conclusion, sign * quality[values.epoch], slot, evidence)

    def _slot(
        self, candidates: Mapping[int, EpochValues], epoch: int, best: int, quality: Mapping[int, float]
    ) -> int | None:
        """Finds the slot of a new epoch: a free one, or that of the weakest; None where it is the weakest itself."""
        if len(candidates) < CANDIDATES:
            return len(candidates)
        others = {slot: quality[each.epoch] for slot, each in candidates.items() if each.epoch != best}
        weakest = min(others, key=others.__getitem__)
        return weakest if epoch == best or quality[epoch] > others[weakest] else None

    def _reason(self, before: int, best: int, epoch: int, value: Mapping[int, float]) -> str:
        if best == epoch:
            earlier = value[before] if before else worst(self.mode)
            return f"Model improved from {figure(earlier)} to {figure(value[epoch])}!"
        if best != before:
            estimates = f"estimated {figure(value[best])} against {figure(value[before])}"
            return f"Epoch {best} now looks better than epoch {before}: {estimates}"
        return "Model did not improve"


def _sign(mode: Mode) -> float:
    return -1.0 if mode == "min" else 1.0


def _judge(values: EpochValues, other: Floats, mode: Mode, confidence: float, least: float) -> Evidence:
    return judge(values.per_query, other, mode=mode, confidence=confidence, seed=values.epoch, min_delta=least)
