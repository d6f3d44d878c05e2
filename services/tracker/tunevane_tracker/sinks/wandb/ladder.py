"""Finds out how Weights & Biases can be used: with an account, anonymously, or offline. Never asks anybody."""

from __future__ import annotations

import json
import netrc
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from tunevane import log
from tunevane_tracker.sinks.wandb.graphql import AwayError, RefusedError, anonymous_key, check_key

_log = log.get("tracker.wandb")


@dataclass(frozen=True)
class Account:
    """How W&B is used."""

    kind: Literal["account", "anonymous", "offline"]
    """Which step of the ladder holds."""

    base_url: str = field(repr=False)
    """Address of the server; an operator's may hold a password."""

    key: str = field(default="", repr=False)
    """API key; empty when offline. Never shown."""

    reason: str = ""
    """Why it is offline, part of a sentence."""


class Ladder:
    """Climbs once and remembers the step; offline is tried again after a while."""

    def __init__(
        self,
        folder: Path,
        environ: Mapping[str, str],
        monotonic: Callable[[], float],
        *,
        offline: bool = False,
        retry_seconds: float = 300.0,
    ) -> None:
        """Keeps the anonymous key in `folder`; `offline` stays on the last step."""
        self._retry_seconds = retry_seconds
        self._file = folder / "anonymous.json"
        self._environ = environ
        self._monotonic = monotonic
        self._offline = offline
        self._lock = threading.Lock()
        self._found: Account | None = None
        self._climbed = 0.0
        self._climbing_since: float | None = None

    @property
    def kind(self) -> str:
        """The step that holds; empty before the first climb."""
        return "offline" if self._offline else "" if self._found is None else self._found.kind

    @property
    def climbing_seconds(self) -> float:
        """How long a climb has been under way; 0 when none is."""
        since = self._climbing_since
        return 0.0 if since is None else self._monotonic() - since

    def account(self, base_url: str) -> Account:
        """Returns how the server at `base_url` is used; takes some seconds when it has to find out."""
        base_url = base_url.rstrip("/")
        if self._offline:
            return Account("offline", base_url, reason="the tracker is set to offline")
        with self._lock:
            found = self._found
            age_seconds = self._monotonic() - self._climbed
            if found is not None and found.kind == "offline" and age_seconds > self._retry_seconds:
                found = None
            if found is None:
                self._climbing_since = self._monotonic()
                try:
                    self._found = found = self._climb(base_url)
                finally:
                    self._climbing_since = None
                self._climbed = self._monotonic()
                _log.info("wandb mode=%s reason=%s", found.kind, found.reason or "-")
            return found

    def forget(self) -> None:
        """Climbs again next time, because the server may no longer take the key."""
        with self._lock:
            self._found = None

    def _climb(self, base_url: str) -> Account:
        key = self._operator_key(base_url)
        try:
            if key:
                check_key(base_url, key)
                return Account("account", base_url, key)
            return Account("anonymous", base_url, self._anonymous_key(base_url))
        except RefusedError:
            whose = "the API key" if key else "anonymous runs"
            return Account("offline", base_url, reason=f"{_shown(base_url)} refuses {whose}")
        except AwayError as error:
            return Account("offline", base_url, reason=f"{_shown(base_url)} {error}")

    def _operator_key(self, base_url: str) -> str:
        if key := self._environ.get("WANDB_API_KEY", "").strip():
            return key
        path = Path(self._environ.get("NETRC") or Path(self._environ.get("HOME", "/")) / ".netrc")
        try:
            found = netrc.netrc(path).authenticators(urlsplit(base_url).hostname or "")
        except (OSError, netrc.NetrcParseError):
            return ""
        return (found[2] or "") if found else ""

    def _anonymous_key(self, base_url: str) -> str:
        kept = self._kept()
        if key := kept.get(base_url, ""):
            try:
                check_key(base_url, key)
            except RefusedError:
                _log.info("the anonymous key is refused, asking for a new one")
            else:
                return key
        key = anonymous_key(base_url)
        self._keep({**kept, base_url: key})
        return key

    def _kept(self) -> dict[str, str]:
        try:
            kept = json.loads(self._file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return {str(url): str(key) for url, key in kept.items()} if isinstance(kept, dict) else {}

    def _keep(self, keys: Mapping[str, str]) -> None:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        scratch = self._file.with_suffix(".new")
        scratch.unlink(missing_ok=True)
        # Readable by nobody else from the first byte on.
        with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump(dict(keys), file)
        scratch.replace(self._file)


def _shown(base_url: str) -> str:
    """Leaves a name and a password out of an address."""
    parts = urlsplit(base_url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
