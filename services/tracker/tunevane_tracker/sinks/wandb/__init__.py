"""Mirrors runs to Weights & Biases."""
