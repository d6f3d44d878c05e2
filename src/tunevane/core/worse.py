"""The sentence that says so when fine-tuning made retrieval worse."""

from __future__ import annotations

from collections.abc import Mapping

from tunevane.core.numbers import column


def worse(before: Mapping[str, float], after: Mapping[str, float]) -> str:
    """Says that retrieval got worse, where more metrics fell than rose; empty otherwise.

    Args:
        before: Retrieval metrics of the pre-trained model, by name; more is better for all of them.
        after: The same of the model that came of the run.

    """
    both = sorted(before.keys() & after.keys())
    fell = [name for name in both if after[name] < before[name]]
    rose = [name for name in both if after[name] > before[name]]
    if len(fell) <= len(rose):
        return ""
    most = max(fell, key=lambda name: (before[name] - after[name]) / abs(before[name]))
    ((one, other, _),) = column([(before[most], after[most])])
    return (
        f"Retrieval got worse: {len(fell)} of {len(both)} metrics fell, {most} the most, from {one} to {other};"
        " the model as it was before serves these queries better"
    )
