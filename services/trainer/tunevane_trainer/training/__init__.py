"""The worker: fine-tunes one run; torch begins here."""
