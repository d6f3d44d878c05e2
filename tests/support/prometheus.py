"""Debian's real Prometheus on loopback, in a folder of its own."""

from __future__ import annotations

import json
import math
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode
from urllib.request import urlopen

import yaml

from support.programs import require
from support.waits import eventually
from tunevane.local.supervisor import free_ports

Series = Mapping[frozenset[tuple[str, str]], Sequence[tuple[float, float]]]
"""Times in Unix seconds and values, by labels."""


@dataclass(frozen=True)
class Prometheus:
    """One that runs."""

    url: str
    """Where it answers."""

    def get(self, path: str, **parameters: object) -> Any:
        """Asks the API; the answer's form depends on the path.

        Raises:
            AssertionError: It refused, for example an expression; says why.

        """
        try:
            with urlopen(f"{self.url}/api/v1/{path}?{urlencode(parameters)}", timeout=30) as answer:
                return json.load(answer)["data"]
        except HTTPError as error:
            raise AssertionError(f"{parameters}: {error.read().decode()}") from error

    def over(self, expr: str, begin: float, end: float, step: float = 1.0) -> Series:
        """Evaluates an expression at every step of a time."""
        found = self.get("query_range", query=expr, start=begin, end=end, step=step)["result"]
        return {
            frozenset(each["metric"].items()): [(when, float(value)) for when, value in each["values"]]
            for each in found
        }

    def now(self, expr: str, when: float | None = None) -> dict[frozenset[tuple[str, str]], float]:
        """Evaluates an expression now, or at another time."""
        at = {} if when is None else {"time": when}
        result = self.get("query", query=expr, **at)["result"]
        return {frozenset(each["metric"].items()): float(each["value"][1]) for each in result}

    def has(self, expr: str) -> bool:
        """Tells whether an expression has a value now."""
        return any(not math.isnan(value) for value in self.now(expr).values())


@contextmanager
def prometheus(folder: Path, targets: Sequence[str] = (), rules: Sequence[Path] = ()) -> Iterator[Prometheus]:
    """Runs Prometheus, which scrapes every second, until the block ends.

    Args:
        folder: Of its configuration, and of its blocks in `data`.
        targets: Addresses with `/metrics`.
        rules: Files with rules.

    """
    program = require("prometheus")
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(path) for path in rules],
        "scrape_configs": [{"job_name": "tunevane", "static_configs": [{"targets": list(targets)}]}],
    }
    file = folder / "prometheus.yaml"
    file.write_text(yaml.safe_dump(config))
    (port,) = free_ports(1)
    log = (folder / "prometheus.log").open("wb")
    process = subprocess.Popen(
        [
            program,
            f"--config.file={file}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            # Blocks of any age are kept.
            "--storage.tsdb.retention.time=100y",
            "--query.lookback-delta=5m",
        ],
        stdout=log,
        stderr=log,
    )
    running = Prometheus(f"http://127.0.0.1:{port}")

    def is_ready() -> bool:
        assert process.poll() is None, (folder / "prometheus.log").read_text()
        try:
            with urlopen(f"{running.url}/-/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except (URLError, ConnectionError):
            return False

    try:
        eventually(is_ready)
        yield running
    finally:
        process.terminate()
        process.wait(20)
        log.close()
