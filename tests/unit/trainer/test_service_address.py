"""Where workers find the trainer that started them."""

from __future__ import annotations

import pytest

from tunevane_trainer.service import address_for_workers


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "127.0.0.1:50051"),
        ("0.0.0.0", "127.0.0.1:50051"),
        ("::", "[::1]:50051"),
        ("[::]", "[::1]:50051"),
        ("trainer.example.com", "trainer.example.com:50051"),
    ],
)
def test_a_wildcard_is_reached_by_loopback(host: str, address: str) -> None:
    assert address_for_workers(host, 50051) == address
