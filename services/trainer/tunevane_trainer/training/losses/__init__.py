"""Losses that runs can name, from the libraries that have them. Torch is imported when one is built."""

from __future__ import annotations

from tunevane_trainer.training.losses.info import DEFAULT_FOR, LossInfo, Space, check

__all__ = ["DEFAULT_FOR", "LossInfo", "Space", "check"]
