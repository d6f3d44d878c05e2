"""The three services on one machine."""
