"""A service's HTTP endpoint: metrics, health, and a sentence when it cannot listen."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from support.scrapes import read, value
from tunevane import __version__
from tunevane.errors import ConfigurationError
from tunevane.rpc import metrics
from tunevane.rpc.metrics_http import exposed


@pytest.fixture
def url() -> Iterator[str]:
    with exposed("demo", "127.0.0.1", 0, metrics.registry("demo")) as port:
        yield f"http://127.0.0.1:{port}"


def test_metrics_describe_the_process_and_its_version(url: str) -> None:
    samples = read(f"{url}/metrics")
    assert value(samples, "tunevane_build_info", service="demo", version=__version__) == 1
    assert value(samples, "process_resident_memory_bytes") > 1e6
    assert not any(name.endswith("_created") for name in samples)


def test_openmetrics_is_spoken_to_those_who_ask(url: str) -> None:
    asked = Request(f"{url}/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    with urlopen(asked, timeout=10) as answer:
        assert "openmetrics" in answer.headers["Content-Type"]
        assert answer.read().endswith(b"# EOF\n")


def test_health_is_told_and_nothing_else_is_served(url: str) -> None:
    with urlopen(f"{url}/healthz", timeout=10) as answer:
        assert answer.status == 200
    with pytest.raises(HTTPError, match="404") as caught:
        urlopen(f"{url}/etc/passwd", timeout=10)
    caught.value.close()


@pytest.mark.parametrize("host", ["localhost", "0.0.0.0"])
def test_other_addresses_of_this_machine_serve_when_they_are_asked_for(host: str) -> None:
    with exposed("demo", host, 0, metrics.registry("demo")) as port:
        assert value(read(f"http://localhost:{port}/metrics"), "tunevane_build_info", service="demo") == 1


def test_without_a_port_nothing_is_served() -> None:
    with exposed("demo", "127.0.0.1", None, metrics.registry("demo")) as port:
        assert port is None


def test_a_port_in_use_gets_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with (
            pytest.raises(ConfigurationError, match=f"demo cannot show its metrics on 127.0.0.1, port {port}"),
            exposed("demo", "127.0.0.1", port, metrics.registry("demo")),
        ):
            pass


def test_an_address_of_another_machine_gets_one_sentence() -> None:
    with (
        pytest.raises(ConfigurationError, match="choose another with the settings metrics_host and metrics_port"),
        exposed("demo", "192.0.2.1", 0, metrics.registry("demo")),
    ):
        pass
