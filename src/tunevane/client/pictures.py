"""Pictures in a terminal: inline where it has a protocol for them, else two pixels a character."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from rich.color import Color
from rich.console import Console
from rich.style import Style
from rich.text import Text

if TYPE_CHECKING:
    from PIL.Image import Image

Protocol = Literal["kitty", "iterm", "blocks", "none"]
"""How pictures are shown: by kitty's or iTerm's escape sequences, by coloured characters, or not at all."""

MAX_PIXELS = 1 << 22
"""A thumbnail that claims to be larger is not opened."""

TILE = 96
"""Pixels of a picture in a strip, width and height."""

_CHUNK = 4096
"""Characters of one piece of kitty's protocol."""


def protocol(console: Console, environ: Mapping[str, str] = os.environ) -> Protocol:
    """Finds out what a console can show."""
    if not console.is_terminal or console.is_jupyter or console.color_system not in {"256", "truecolor"}:
        return "none"
    # A multiplexer does not pass pictures on.
    if "TMUX" in environ or environ.get("TERM", "").startswith(("screen", "tmux")):
        return "blocks"
    program = environ.get("TERM_PROGRAM", "").lower()
    if "KITTY_WINDOW_ID" in environ or environ.get("TERM") == "xterm-kitty" or program == "ghostty":
        return "kitty"
    if program in {"iterm.app", "wezterm"} or environ.get("LC_TERMINAL") == "iTerm2":
        return "iterm"
    return "blocks"


def opened(uri: str) -> Image | None:
    """Opens a thumbnail given as a data URI, in RGB on white; None when it is no picture."""
    import PIL.Image

    try:
        picture = PIL.Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2], validate=True)))
        if picture.width * picture.height > MAX_PIXELS:
            return None
        coloured = picture.convert("RGBA")
    except (OSError, ValueError, SyntaxError):
        return None
    ground = PIL.Image.new("RGBA", coloured.size, "white")
    return PIL.Image.alpha_composite(ground, coloured).convert("RGB")


def blocks(uri: str, width: int, height: int) -> Text | None:
    """Draws a thumbnail with half blocks.

    Args:
        uri: The thumbnail.
        width: Characters at most.
        height: Lines at most.

    Returns:
        Lines of text; None when it is no picture.

    """
    picture = opened(uri)
    if picture is None:
        return None
    picture.thumbnail((width, 2 * height))
    pixels = picture.load()
    assert pixels is not None
    text = Text(no_wrap=True)
    for top in range(0, picture.height, 2):
        if top:
            text.append("\n")
        for x in range(picture.width):
            below = _colour(pixels[x, top + 1]) if top + 1 < picture.height else None
            text.append("▀", Style(color=_colour(pixels[x, top]), bgcolor=below))
    return text


def strip(uris: Sequence[tuple[str, bool]]) -> bytes | None:
    """Puts thumbnails side by side, those that are marked in a green frame.

    Args:
        uris: Each thumbnail, and whether it is marked; an empty one leaves its place blank.

    Returns:
        A PNG; None when none of them is a picture.

    """
    import PIL.Image
    import PIL.ImageDraw

    pictures = [(opened(uri), marked) for uri, marked in uris]
    if all(picture is None for picture, _ in pictures):
        return None
    margin = 6
    whole = PIL.Image.new("RGB", (len(pictures) * (TILE + 2 * margin), TILE + 2 * margin), "white")
    draw = PIL.ImageDraw.Draw(whole)
    for place, (picture, marked) in enumerate(pictures):
        if picture is None:
            continue
        picture.thumbnail((TILE, TILE))
        left = place * (TILE + 2 * margin) + margin + (TILE - picture.width) // 2
        whole.paste(picture, (left, margin + (TILE - picture.height) // 2))
        if marked:
            edge = place * (TILE + 2 * margin) + 1
            draw.rectangle((edge, 1, edge + TILE + 2 * margin - 3, TILE + 2 * margin - 2), outline="#12794a", width=3)
    content = io.BytesIO()
    whole.save(content, "PNG")
    return content.getvalue()


def inline(png: bytes, way: Literal["kitty", "iterm"], lines: int) -> str:
    """Returns the escape sequence that shows a PNG, so many lines high, and ends the line."""
    data = base64.b64encode(png).decode()
    if way == "iterm":
        return f"\x1b]1337;File=inline=1;size={len(png)};height={lines};preserveAspectRatio=1:{data}\x07\n"
    pieces = [data[at : at + _CHUNK] for at in range(0, len(data), _CHUNK)]
    sequence = []
    for number, piece in enumerate(pieces):
        control = f"a=T,f=100,r={lines}," if number == 0 else ""
        sequence.append(f"\x1b_G{control}m={int(number < len(pieces) - 1)};{piece}\x1b\\")
    return "".join(sequence) + "\n"


def _colour(pixel: object) -> Color:
    assert isinstance(pixel, tuple)
    red, green, blue = pixel
    return Color.from_rgb(red, green, blue)
