"""The three services on one machine, started when they are needed and asleep when they are not."""

from tunevane.local.stack import Stack, ensure, home, stop

__all__ = ["Stack", "ensure", "home", "stop"]
