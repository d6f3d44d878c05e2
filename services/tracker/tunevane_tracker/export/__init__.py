"""Writes a tracked run into a file that other tools read."""
