"""Fetches one image over http, within limits of size and time."""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from http.client import HTTPException, HTTPMessage
from typing import IO
from urllib.parse import urlsplit

from tunevane.errors import DataFormatError

MAX_BYTES = 32 << 20
"""Size of the largest image."""

SECONDS = 20.0
"""Time that one image may take, connecting included."""

_PIECE_BYTES = 1 << 16


class _HttpOnly(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but never to a scheme that reads local files."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        """Returns the request to follow."""
        try:
            _demand_http(newurl)
        except DataFormatError:
            fp.close()
            raise
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _demand_http(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise DataFormatError(f"behind a '{parts.scheme}' address; only http and https are fetched")


def download(url: str) -> bytes:
    """Returns what is behind a URL.

    Raises:
        DataFormatError: It is no http address, does not answer in time with success, or is too large.

    """
    until = time.monotonic() + SECONDS
    try:
        _demand_http(url)
        request = urllib.request.Request(url, headers={"User-Agent": "tunevane"})  # noqa: S310  # the scheme is checked
        with urllib.request.build_opener(_HttpOnly).open(request, timeout=SECONDS) as response:
            parts, size = [], 0
            while piece := response.read1(_PIECE_BYTES):
                size += len(piece)
                if size > MAX_BYTES:
                    raise DataFormatError(f"that is larger than {MAX_BYTES} bytes, the most that is fetched")
                if time.monotonic() > until:
                    raise DataFormatError(f"that took longer than {SECONDS:g} seconds to fetch")
                parts.append(piece)
    except urllib.error.HTTPError as error:
        error.close()
        raise DataFormatError(f"that cannot be fetched: the server answers {error.code} {error.reason}") from None
    except TimeoutError:
        raise DataFormatError(f"that took longer than {SECONDS:g} seconds to fetch") from None
    except (OSError, HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, TimeoutError):
            raise DataFormatError(f"that took longer than {SECONDS:g} seconds to fetch") from None
        raise DataFormatError(f"that cannot be fetched: {reason}") from error
    return b"".join(parts)
