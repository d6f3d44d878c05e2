"""The tracker's pages: plain HTML, complete without scripts and without other hosts."""
