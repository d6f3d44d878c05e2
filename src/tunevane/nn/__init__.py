"""Models, encoding and checkpoints; torch lives here."""
