"""Runs contenders in turn within one process and writes what came out: a table and `results.json`."""

from __future__ import annotations

import gc
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

RESULTS = Path(__file__).parent / "results.json"


@dataclass(frozen=True)
class Row:
    """One comparison."""

    name: str
    """What was compared, with its unit."""

    ours: float
    """Our value: the median over rounds where it is a time."""

    peer: float | None
    """The other's value; None where there is only a goal."""

    ratio: float | None
    """How many times better ours is than the peer's; None without one."""

    goal: str
    """What was to be reached, in words."""

    met: bool
    """Whether it was."""


def race(contenders: Mapping[str, Callable[[], object]], rounds: int, warmups: int = 1) -> dict[str, float]:
    """Times contenders in turn, so that a busy machine is busy for all of them.

    Returns:
        Median CPU seconds of this process by contender, over the rounds after the warm-ups.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for round_number in range(warmups + rounds):
        for name, contender in contenders.items():
            gc.collect()  # what one contender leaves behind is not for the next to clear away
            began = time.process_time()
            contender()
            if round_number >= warmups:
                seconds[name].append(time.process_time() - began)
    return {name: statistics.median(times) for name, times in seconds.items()}


def faster(name: str, ours: float, peer: float, times: float) -> Row:
    """Makes the row of a goal "at least n times faster"."""
    ratio = peer / ours
    return Row(name, ours, peer, ratio, f">= {times:g} x", ratio >= times)


def at_most(name: str, value: float, most: float) -> Row:
    """Makes the row of a goal "at most"."""
    return Row(name, value, None, None, f"<= {most:g}", value <= most)


def at_least(name: str, value: float, least: float) -> Row:
    """Makes the row of a goal "at least"."""
    return Row(name, value, None, None, f">= {least:g}", value >= least)


def machine() -> str:
    """Names the machine: processor, cores, system and interpreter."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        models = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if "model name" in line]
        model = models[0] if models else model
    python = f"Python {platform.python_version()}"
    return f"{model}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}, {python}"


def report(section: str, rows: list[Row], notes: Mapping[str, object] | None = None) -> None:
    """Prints a table and replaces this section of `results.json`."""
    width = max(len(row.name) for row in rows)
    print(f"{section} on {machine()}")
    print(f"{'name':{width}}  {'ours':>10}  {'peer':>10}  {'ratio':>8}  {'goal':>10}  met")
    for row in rows:
        peer, ratio, met = _figure(row.peer), _figure(row.ratio), "yes" if row.met else "NO"
        print(f"{row.name:{width}}  {row.ours:10.4g}  {peer:>10}  {ratio:>8}  {row.goal:>10}  {met}")
    results = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    results[section] = {"machine": machine(), "rows": [asdict(row) for row in rows], "notes": dict(notes or {})}
    RESULTS.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    sys.stdout.flush()


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
