"""A font that can write a text."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import cast

from PIL import ImageFont

NOT_A_LETTER = "\U0010ffff"  # drawn as the box that stands for a letter the font has not
# Files of fonts of many letters
NOTO = ("NotoSansCJK-Regular.ttc", "NotoSansCJKsc-Regular.otf", "NotoSansSC-Regular.otf")
ON_LINUX = ("DejaVuSans.ttf", *NOTO, "wqy-microhei.ttc", "DroidSansFallbackFull.ttf")
ON_WINDOWS = ("arial.ttf", "msyh.ttc", "YuGothM.ttc", "malgun.ttf")
ON_MACOS = ("Arial.ttf", "PingFang.ttc", "Hiragino Sans GB.ttc", "Arial Unicode.ttf")


def font_for(text: str, size: int) -> ImageFont.FreeTypeFont:
    """Return Pillow's own font, or one of the system's when that has more of the text's letters.

    Pillow's has Latin letters without accents. Pillow looks for the others in the system's font folders.
    """
    own = cast("ImageFont.FreeTypeFont", ImageFont.load_default(size))  # Pillow's wheels have FreeType
    letters = {letter for letter in text if letter.isprintable() and not letter.isspace()}
    if not missing(own, letters):
        return own
    others = (_system_font(name, size) for name in (*ON_LINUX, *ON_WINDOWS, *ON_MACOS))
    fonts = (own, *filter(None, others))
    return min(fonts, key=lambda font: missing(font, letters))


def missing(font: ImageFont.FreeTypeFont, letters: set[str]) -> int:
    """Return how many of the letters the font lacks."""

    def drawn(letter: str) -> bytes:
        return bytes(cast("Sequence[int]", font.getmask(letter)))

    return [drawn(letter) for letter in letters].count(drawn(NOT_A_LETTER))


@functools.lru_cache(maxsize=64)
def _system_font(name: str, size: int) -> ImageFont.FreeTypeFont | None:
    try:
        return ImageFont.truetype(name, size)
    except OSError:
        return None
