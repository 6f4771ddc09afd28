"""A font that can write a text."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import cast

from PIL import ImageFont

NOT_A_LETTER = "\U0010ffff"  # drawn as the box that stands for a letter the font has not
OTHERS = (  # fonts of many letters, by their files' names, on Linux, Windows and macOS
    "DejaVuSans.ttf",
    "arial.ttf",
    "Arial.ttf",
    "NotoSansCJK-Regular.ttc",
    "NotoSansCJKsc-Regular.otf",
    "NotoSansSC-Regular.otf",
    "wqy-microhei.ttc",
    "DroidSansFallbackFull.ttf",
    "msyh.ttc",
    "YuGothM.ttc",
    "malgun.ttf",
    "PingFang.ttc",
    "Hiragino Sans GB.ttc",
    "Arial Unicode.ttf",
)


def font_for(text: str, size: int) -> ImageFont.FreeTypeFont:
    """Return Pillow's own font, or one of the system's when that has more of the text's letters.

    Pillow's has Latin letters without accents. Pillow looks for the others in the system's font folders.
    """
    own = cast("ImageFont.FreeTypeFont", ImageFont.load_default(size))  # Pillow's wheels have FreeType
    letters = {letter for letter in text if letter.isprintable() and not letter.isspace()}
    if not missing(own, letters):
        return own
    fonts = (own, *filter(None, (_system_font(name, size) for name in OTHERS)))
    return min(fonts, key=lambda font: missing(font, letters))


def missing(font: ImageFont.FreeTypeFont, letters: set[str]) -> int:
    """Return how many of the letters the font lacks."""
    box = _drawn(font, NOT_A_LETTER)
    return sum(_drawn(font, letter) == box for letter in letters)


def _drawn(font: ImageFont.FreeTypeFont, letter: str) -> bytes:
    return bytes(cast("Sequence[int]", font.getmask(letter)))


@functools.lru_cache(maxsize=64)
def _system_font(name: str, size: int) -> ImageFont.FreeTypeFont | None:
    try:
        return ImageFont.truetype(name, size)
    except OSError:
        return None
