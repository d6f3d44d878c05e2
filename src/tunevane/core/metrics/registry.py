"""Finds metrics by name: ours directly, anybody's by entry point of the group `tunevane.metrics`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache

from tunevane import plugins
from tunevane.core.metrics import reference, standard
from tunevane.core.metrics.metric import Metric, MetricInfo
from tunevane.errors import InvalidRequestError

DEFAULT_METRICS: tuple[str, ...] = tuple(metric.name for metric in reference.METRICS)
"""What is reported when nothing is asked for, in this order."""

# Ours are looked up without a scan of the installed packages, and nobody can replace them.
_OURS = {metric.name.removesuffix("@k"): metric for metric in (*reference.METRICS, *standard.METRICS)}
_NUMBER = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True)
class Asked:
    """One value that was asked for."""

    name: str
    """The name it is reported under, for example `ndcg@10`."""

    metric: Metric
    """What computes it."""

    cutoff: int
    """The k it is computed at."""


def resolve(names: Sequence[str] | None, limit: int) -> list[Asked]:
    """Turns names into metrics with cut-offs; `recall@1,10` gives two. None: the default set.

    Raises:
        InvalidRequestError: `limit` or a cut-off is below 1, no metric is asked for, or a name is unknown.

    """
    if type(limit) is not int or limit < 1:
        raise InvalidRequestError(f"limit must be a whole number of at least 1, got {limit!r}")
    if isinstance(names, str):
        raise InvalidRequestError(f"metrics must be a list of names, got the string '{names}'; write ['{names}']")
    wanted = DEFAULT_METRICS if names is None else names
    asked = {one.name: one for name in wanted for one in _expand(name, limit)}
    if not asked:
        raise InvalidRequestError("no metric was asked for; leave metrics out to get the default set")
    return list(asked.values())


def describe(name: str) -> MetricInfo:
    """Describes a metric by a name as in `ndcg@10`, `ndcg@k` or `average_precision`.

    Raises:
        InvalidRequestError: Nothing of that name exists; the sentence lists what does.

    """
    family = name.removesuffix("@k")
    if family != name and (metric := _find(family, name)).takes_cutoff:
        return metric.info
    asked = list(_expand(name, 1))
    if len(asked) != 1:
        raise InvalidRequestError(f"'{name}' names {len(asked)} metrics; describe one at a time")
    return replace(asked[0].metric.info, name=asked[0].name)


def list_metrics() -> list[MetricInfo]:
    """Describes every metric: the reference set, the standard set, then plug-ins by name."""
    added = [_find(name, name) for name in plugins.names("metrics") if name not in _OURS]
    return [metric.info for metric in (*_OURS.values(), *added)]


def _expand(name: str, limit: int) -> Iterator[Asked]:
    family, at, cutoffs = name.partition("@")
    metric = _find(family, name)
    if not metric.takes_cutoff:
        if at:
            raise InvalidRequestError(f"metric '{name}': {family} takes no cut-off; write '{family}'")
        yield Asked(family, metric, limit)
        return
    if not at:
        raise InvalidRequestError(f"metric '{name}' needs a cut-off, for example '{family}@10'")
    for text in cutoffs.split(","):
        if not _NUMBER.fullmatch(text.strip()) or int(text) < 1:
            raise InvalidRequestError(
                f"metric '{name}': the cut-off must be a whole number of at least 1, got '{text}'"
            )
        yield Asked(f"{family}@{int(text)}", metric, int(text))


def _find(family: str, asked: str) -> Metric:
    if family in _OURS:
        return _OURS[family]
    if family not in plugins.names("metrics"):
        known = [info.name for info in list_metrics()]
        raise InvalidRequestError(f"unknown metric '{asked}'; known are: {', '.join(known)}")
    return _plugin(family)


@cache
def _plugin(family: str) -> Metric:
    found = plugins.load("metrics", family)
    if not isinstance(found, Metric) or found.name.removesuffix("@k") != family:
        raise InvalidRequestError(
            f"the plug-in metric '{family}' must be a tunevane.core.metrics.Metric of that name, got {found!r}"
        )
    return found
