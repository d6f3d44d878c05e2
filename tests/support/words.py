"""A few German words and their English ones: the smallest data that retrieval can be measured on."""

from __future__ import annotations

WORDS = {
    "Katze": "cat",
    "Hund": "dog",
    "Haus": "house",
    "Auto": "car",
    "Baum": "tree",
    "Fluss": "river",
    "Berg": "mountain",
    "Buch": "book",
    "Telefon": "phone",
    "Stuhl": "chair",
    "Tisch": "table",
    "Fenster": "window",
    "Tür": "door",
    "Blume": "flower",
    "Vogel": "bird",
    "Fisch": "fish",
}
QUERIES = [{"id": f"q-{e}", "text": f"ein {g}", "label": e} for g, e in WORDS.items()]
INDEX = [{"id": f"d-{e}", "text": e, "label": e} for e in WORDS.values()]
