"""What the process that runs wandb sees of this machine: as little as possible."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

_KEPT = ("PATH", "LANG", "LC_ALL", "PYTHONPATH", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE")
_PROXIES = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")


def environment(home: Path, folder: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """Returns what the child sees: of the user only paths and proxies, and all folders below `home`."""
    kept = {name: environ[name] for name in (*_KEPT, *_PROXIES) if name in environ}
    places = {
        "HOME": home,
        "TMPDIR": home / "tmp",
        "WANDB_DIR": folder,
        "WANDB_CACHE_DIR": home / "cache",
        "WANDB_CONFIG_DIR": home / "config",
        "WANDB_DATA_DIR": home / "data",
        "WANDB_ARTIFACT_DIR": home / "artifacts",
    }
    for place in places.values():
        place.mkdir(parents=True, exist_ok=True)
    # Errors within the wandb package are not reported to its makers.
    return {**kept, **{name: str(place.resolve()) for name, place in places.items()}, "WANDB_ERROR_REPORTING": "false"}
