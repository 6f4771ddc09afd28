"""How well the base follows captions of held-out scenes, read back from its pictures.

    PYTHONPATH=tools python -m small_world.check_base [captions] [--store]

Samples the stored base through ComfyUI (with --store what is trained so far, which is then the stored one), and
leaves a sheet of samples in the cache folder.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from small_world.captions import caption, random_told
from small_world.files import checkpoint, note_of, store_base
from small_world.reader import Seen, read
from small_world.sampling import World, conditioning, loaded, sample
from small_world.scenes import ATTRIBUTES, Scene, held_out_scene
from small_world.storage import world_folder

CAPTIONS, BATCH = 200, 25
ON_THE_SHEET, COLUMNS, ZOOM, LINE = 40, 8, 2, 12


@dataclass(frozen=True)
class Trial:
    """A caption, the scene it is of, and which of its attributes it tells."""

    text: str
    scene: Scene
    told: frozenset[str]


def trials(count: int, seed: str = "check") -> list[Trial]:
    drawn = random.Random(seed)
    made = []
    for _ in range(count):
        scene, told = held_out_scene(drawn), random_told(drawn)
        made.append(Trial(caption(scene, told, drawn), scene, frozenset(told)))
    return made


def pictures_of(world: World, texts: Sequence[str]) -> list[np.ndarray]:
    negative = conditioning(world, [""])
    starts = range(0, len(texts), BATCH)
    batches = [sample(world, conditioning(world, texts[at : at + BATCH]), negative, seed=at) for at in starts]
    return [picture for batch in batches for picture in batch]


def followed(tried: Sequence[Trial], seen: Sequence[Seen]) -> dict[str, float]:
    """By attribute: the share of captions that tell it, in whose pictures it is as told."""
    pairs = list(zip(tried, seen, strict=True))
    return {
        name: float(np.mean([s.attributes[name] == t.scene.attributes[name] for t, s in pairs if name in t.told]))
        for name in ATTRIBUTES
    }


def all_followed(tried: Sequence[Trial], seen: Sequence[Seen]) -> float:
    """The share of captions of which everything that they tell is in the picture, and just one thing."""
    right = [
        len(s.things) == 1 and all(s.attributes[name] == t.scene.attributes[name] for name in t.told)
        for t, s in zip(tried, seen, strict=True)
    ]
    return float(np.mean(right))


def write_sheet(pictures: Sequence[np.ndarray], labels: Sequence[str], path: Path) -> None:
    """Pictures in rows, each with its label in a few lines below."""
    side = 64 * ZOOM
    lines = [wrapped(label, side // 6) for label in labels]
    height = side + LINE * max(map(len, lines))
    rows = -(-len(pictures) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * (side + 4), rows * (height + 4)), "white")
    pen = ImageDraw.Draw(sheet)
    for number, (picture, label) in enumerate(zip(pictures, lines, strict=True)):
        x, y = number % COLUMNS * (side + 4), number // COLUMNS * (height + 4)
        sheet.paste(Image.fromarray((255 * picture).round().astype(np.uint8)).resize((side, side), 0), (x, y))
        pen.multiline_text((x, y + side), "\n".join(label), "black", spacing=1)
    sheet.save(path)


def wrapped(text: str, width: int) -> list[str]:
    lines = [""]
    for word in text.split():
        if len(lines[-1]) + len(word) >= width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


def main() -> int:
    if "--store" in sys.argv:
        store_base()
    counts = [int(argument) for argument in sys.argv[1:] if argument.isdigit()]
    tried = trials(*(counts or [CAPTIONS]))
    path = checkpoint()
    pictures = pictures_of(loaded(path), [trial.text for trial in tried])
    seen = [read(picture) for picture in pictures]
    shares = followed(tried, seen)
    print(f"{note_of(path)}; {len(tried)} held-out captions:")
    print("  ".join(f"{name} {share:.3f}" for name, share in shares.items()))
    print(f"all that is told, and one thing: {all_followed(tried, seen):.3f}")
    sheet = world_folder() / "base-samples.png"
    write_sheet(pictures[:ON_THE_SHEET], [trial.text for trial in tried[:ON_THE_SHEET]], sheet)
    print(sheet)
    return 0


if __name__ == "__main__":
    sys.exit(main())
