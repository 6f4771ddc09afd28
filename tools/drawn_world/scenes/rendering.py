"""Fetch the sets of drawings by version and hash, and render them.

    PYTHONPATH=tools python -m drawn_world.scenes.rendering

Writes all drawings to the cache folder, and those of the five styles to the repository. Needs npm, and resvg-py
(`tools/requirements-world.txt`).
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import subprocess
import sys
import tarfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from comfyhost.places import ToolError
from comfyhost.standins import whole
from PIL import Image

from drawn_world.scenes.scene import CONCEPTS, DATA, SETS, STYLES
from drawn_world.storage import STORED, world_folder

PACKAGES = "@iconify-json"
DRAWN_AT, LEAST_ALPHA = 256, 24  # pixels; of 255, of what belongs to a drawing
SIDE = 64
SETS_WITH, STYLES_WITH = 7, 4  # of nine and five, that a name is drawn in at least
ALL = "drawings.npz"
# Names that tell an image encoder nothing about styles: flags, times, signs, variants.
TOO_PLAIN = re.compile(
    "flag|oclock|thirty|skin|keycap|button|arrow|square|circle|letter|family|couple|tone|hair|^man|^woman|person|men$|zodiac"
)


def fetched(name: str) -> Path:
    """The package of a set, fetched once. Raises ToolError when it is not the one that was measured."""
    version, integrity = (DATA["sets"][name][fact] for fact in ("version", "integrity"))
    folder = world_folder() / "packages"
    folder.mkdir(exist_ok=True)
    path = folder / f"{PACKAGES[1:]}-{name}-{version}.tgz"
    if not path.is_file():
        command = ["npm", "pack", "--silent", "--pack-destination", str(folder), f"{PACKAGES}/{name}@{version}"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    found = "sha512-" + base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode()
    if found != integrity:
        raise ToolError(f"{path} should have the hash {integrity}, but has {found}. Delete it and try again.")
    return path


class Icons:
    """The drawings of one set, by the concept's name; hyphens don't count."""

    def __init__(self, name: str) -> None:
        with tarfile.open(fetched(name)) as package:
            member = package.extractfile("package/icons.json")
            self.data: dict[str, Any] = json.load(member)
        self.aliases = self.data.get("aliases", {})
        self.names: dict[str, str] = {}
        for icon in (*self.data["icons"], *self.aliases):
            self.names.setdefault(icon.replace("-", ""), icon)
            self.names.setdefault(icon.removesuffix("-1").replace("-", ""), icon)

    def svg(self, concept: str) -> str | None:
        """The drawing as a document, None where the set has none."""
        icon = self.names.get(concept.replace("-", ""))
        if icon is None:
            return None
        while icon in self.aliases:
            icon = self.aliases[icon]["parent"]
        found = self.data["icons"][icon]
        left, top = found.get("left", 0), found.get("top", 0)
        width, height = (found.get(side, self.data.get(side, 16)) for side in ("width", "height"))
        namespaces = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
        body = found["body"].replace("currentColor", "#222")
        return f'<svg {namespaces} viewBox="{left} {top} {width} {height}">{body}</svg>'


def rendered(svg: str, side: int = SIDE) -> np.ndarray:
    """A drawing cut to its outline, [side, side, 4] of 0..255, premultiplied."""
    import resvg_py

    png = bytes(resvg_py.svg_to_bytes(svg_string=svg, width=DRAWN_AT, height=DRAWN_AT))
    image = Image.open(io.BytesIO(png)).convert("RGBA")
    image = image.crop(image.getchannel("A").point(lambda alpha: 255 * (alpha > LEAST_ALPHA)).getbbox())
    square = Image.new("RGBA", (max(image.size),) * 2)
    square.paste(image, tuple((square.width - along) // 2 for along in image.size))
    pixels = np.asarray(square, np.float32)
    pixels[..., :3] *= pixels[..., 3:] / 255
    return resized(pixels, side)


def resized(pixels: np.ndarray, side: int) -> np.ndarray:
    """[H, W, 4] -> [side, side, 4], 0..255"""
    channels = [Image.fromarray(np.ascontiguousarray(pixels[..., c], np.float32)) for c in range(4)]
    small = np.stack([np.asarray(channel.resize((side, side), Image.Resampling.LANCZOS)) for channel in channels], -1)
    return (np.clip(small, 0, 255) + 0.5).astype(np.uint8)


def more_names(icons: Mapping[str, Icons]) -> list[str]:
    """Other names that most sets have: they tell an image encoder what styles are, whatever is drawn."""
    known = {name.replace("-", "") for pair in CONCEPTS.items() for name in pair}
    sets_with = Counter(name for one in icons.values() for name in one.names)
    styles_with = Counter(name for style in STYLES.values() for name in icons[style].names)
    often = (name for name, count in sets_with.items() if count >= SETS_WITH and styles_with[name] >= STYLES_WITH)
    return sorted(name for name in often if name not in known and not TOO_PLAIN.search(name))


def render_all() -> dict[str, np.ndarray]:
    """Every set's drawings of the world's concepts and of many more, by set/concept."""
    icons = {name: Icons(name) for name in SETS}
    wanted = {**CONCEPTS, **{other: other for other in more_names(icons)}}
    found = {
        f"{name}/{word}": one.svg(concept)
        for name, one in icons.items()
        for word, concept in wanted.items()
        if f"{name}/{concept}" not in DATA["misleading"]  # drawings of something else than their name says
    }
    return {name: rendered(svg) for name, svg in found.items() if svg is not None}


def main() -> int:
    drawings = render_all()
    own = [f"{name}/{word}" for name in STYLES.values() for word in CONCEPTS]
    for path, names in ((STORED / ALL, own), (world_folder() / ALL, [*drawings])):
        with whole(path) as partial, open(partial, "wb") as file:
            np.savez_compressed(file, **{name: drawings[name] for name in names})
    return 0


if __name__ == "__main__":
    sys.exit(main())
