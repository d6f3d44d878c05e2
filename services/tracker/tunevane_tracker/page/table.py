"""The table of metrics before and after fine-tuning."""

from __future__ import annotations

from collections.abc import Sequence

from tunevane_tracker.page.html import escape, number, signed
from tunevane_tracker.state import RunState


def short_names(names: Sequence[str]) -> dict[str, str]:
    """Leaves out what all names begin with, up to the last `_` of it: the model, mostly."""
    first, last = min(names, default=""), max(names, default="")
    # What the first and the last in order share, all share.
    prefix = (
        ""
        if first == last
        else first[
            : next((i for i, pair in enumerate(zip(first, last, strict=False)) if pair[0] != pair[1]), len(first))
        ]
    )
    cut = prefix.rfind("_") + 1
    return {name: name[cut:] for name in names}


def before_after(state: RunState) -> str:
    """Shows each metric before, at the best epoch, after, and the change; nothing before the first metrics."""
    phases = state.phases()
    names = sorted(set().union(*phases.values()))
    if not names:
        return ""
    last = "after" if phases["after"] else "current"
    title = "Retrieval before and after" if phases["after"] else "Retrieval so far"
    shorts = short_names(names)
    rows = []
    for name in names:
        before, best, after = (phases[phase].get(name) for phase in ("before", "best", last))
        rows.append(
            f'<tr><th scope="row" title="{escape(name)}">{escape(shorts[name])}</th><td>{number(before)}</td>'
            f"<td>{number(best)}</td><td><b>{number(after)}</b></td>{_change(before, after)}</tr>"
        )
    best_head = f"Best, epoch {state.best_epoch}" if state.best_epoch else "Best"
    heads = ("Metric", "Before", best_head, "After" if phases["after"] else "Now", "Change", "")
    head = "".join(f'<th scope="col">{each}</th>' for each in heads)
    return (
        f'<h2>{title}</h2><div class="card scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _change(before: float | None, after: float | None) -> str:
    if before is None or after is None:
        return "<td>–</td><td></td>"
    change = after - before
    look = "good" if change > 0 else "bad" if change < 0 else "soft"
    percent = f"{100.0 * change / abs(before):+.0f} %".replace("-", "−") if before else ""
    return f'<td class="{look}">{signed(change)}</td><td class="{look}">{percent}</td>'
