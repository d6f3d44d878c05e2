"""Writes the dashboards: `cd deploy && python -m dashboards`."""

from __future__ import annotations

from pathlib import Path

from dashboards import built

FOLDER = Path(__file__).parents[1] / "helm" / "tunevane" / "dashboards"


def main() -> None:
    """Writes every dashboard where the chart takes it from."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, content in built().items():
        (FOLDER / name).write_text(content, encoding="utf-8")


if __name__ == "__main__":
    main()
