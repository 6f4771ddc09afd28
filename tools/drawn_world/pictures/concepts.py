"""The sets of drawings, and the concepts that are drawn in them: what `sets.json` says."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

PACKAGES = "@iconify-json"
DATA = json.loads(Path(__file__).with_name("sets.json").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class DrawingSet:
    """A set of drawings on npm: its package's version and hash, its licence, whom to credit."""

    version: str
    integrity: str
    licence: str
    credit: str


SETS: Mapping[str, DrawingSet] = {name: DrawingSet(**facts) for name, facts in DATA["sets"].items()}
# The styles that the world can draw in, and their sets. The other sets are only looked at.
STYLES: Mapping[str, str] = DATA["styles"]
OTHER_SETS = tuple(name for name in SETS if name not in STYLES.values())
# A concept's plain word, and its name in the sets. All five styles have each.
CONCEPTS: Mapping[str, str] = DATA["concepts"]
# Names that tell an image encoder nothing about styles: flags, times, signs, variants.
TOO_PLAIN = re.compile(
    "flag|oclock|thirty|skin|keycap|button|arrow|square|circle|letter|family|couple|tone|hair|^man|^woman|person|men$|zodiac"
)
# Drawings, as set/name, that show something else than their name says.
MISLEADING = frozenset(DATA["misleading"])
