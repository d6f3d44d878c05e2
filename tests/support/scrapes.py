"""Reads what Prometheus would read."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.request import urlopen

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

Samples = Mapping[str, Mapping[frozenset[tuple[str, str]], float]]
"""Values by name of the sample and by labels."""


def parse(text: str) -> Samples:
    """Takes an exposition apart."""
    found: dict[str, dict[frozenset[tuple[str, str]], float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            series = found.setdefault(sample.name, {})
            labels = frozenset(sample.labels.items())
            assert labels not in series, f"{sample.name} {sample.labels} is there twice"
            series[labels] = sample.value
    return found


def read(source: CollectorRegistry | str) -> Samples:
    """Scrapes a registry, or a URL."""
    if isinstance(source, CollectorRegistry):
        return parse(generate_latest(source).decode())
    with urlopen(source, timeout=10) as answer:
        return parse(answer.read().decode())


def value(samples: Samples, name: str, **labels: str) -> float:
    """Returns the sum of the samples of a name that have these labels among theirs; 0 without any."""
    wanted = labels.items()
    return sum(number for key, number in samples.get(name, {}).items() if wanted <= dict(key).items())
