"""The log of decisions, in words."""

from __future__ import annotations

from tunevane.core import explanation
from tunevane_tracker.page.html import escape, foreign, typographic
from tunevane_tracker.page.outcome import kept_epoch, metric_names
from tunevane_tracker.state import Decision, RunState

KNOWN = ("Model improved from ", "Model did not improve")
"""What reasons begin with that say no more than the numbers."""

MARKS = {
    "improved": ("good", "▲", "improved"),
    "not improved": ("soft", "–", "no better"),
    "stop": ("bad", "■", "stop"),
}


def decision_log(state: RunState) -> str:
    """Lists what was concluded at each epoch end, and which epoch was kept."""
    if not state.decisions:
        return ""
    names = explanation.short_names(metric_names(state))
    by_epoch: dict[int, list[Decision]] = {}
    for decision in state.decisions:
        by_epoch.setdefault(decision.epoch, []).append(decision)
    kept = kept_epoch(state)
    items = []
    for epoch, made in sorted(by_epoch.items()):
        label = ("kept" if state.artifact_epoch else "best so far") if epoch == kept else ""
        badge = f' <span class="badge">{label}</span>' if label else ""
        # Callbacks that say the same share a line.
        said: dict[tuple[str, str], list[str]] = {}
        for each in made:
            said.setdefault((each.verdict, _words(each, state, names)), []).append(each.callback)
        lines = "".join(_line(verdict, words, callbacks) for (verdict, words), callbacks in said.items())
        items.append(f'<li><p class="when">Epoch {epoch}{badge}</p><ul>{lines}</ul></li>')
    return f'<section class="card" aria-label="Decisions"><ol class="decisions">{"".join(items)}</ol></section>'


def _words(decision: Decision, state: RunState, names: dict[str, str]) -> str:
    words = explanation.in_words(decision, state.decisions, lambda name: names.get(name, name))
    # The callback's own sentence says more where it gives an interval, or where the callback is the user's.
    own = "" if decision.reason.startswith(KNOWN) or decision.reason in words else f" ({decision.reason})"
    return words + own


def _line(verdict: str, words: str, callbacks: list[str]) -> str:
    look, mark, word = MARKS.get(verdict, ("soft", "?", "not judged"))
    who = " ".join(f"<code>{escape(each)}</code>" for each in callbacks)
    return (
        f'<li><span class="mark {look}" aria-hidden="true">{mark}</span><span class="unseen">{word}: </span>'
        f"{foreign(typographic(words))} {who}</li>"
    )
