"""How often the reader is right about each attribute of fresh scenes, clean and spoilt.

PYTHONPATH=tools python -m small_world.check_reader [scenes]
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from scipy import ndimage

from small_world.drawing import draw
from small_world.reader import Seen, read
from small_world.round_trip import RoundTrip
from small_world.scenes import ATTRIBUTES, Scene, random_scene
from small_world.storage import world_folder

SCENES = 1000
NOISE, BLUR = 0.03, 0.8
Pictures = list[np.ndarray]


def spoilt(pictures: Pictures) -> Mapping[str, Pictures]:
    """The pictures as they are, and in each way that a reader should stand."""
    noise = np.random.default_rng(0)
    ways: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "clean": lambda picture: picture,
        f"noise {NOISE}": lambda picture: picture + noise.normal(0, NOISE, picture.shape),
        f"blur {BLUR}": lambda picture: ndimage.gaussian_filter(picture, (BLUR, BLUR, 0)),
    }
    return {name: [np.clip(way(picture), 0, 1) for picture in pictures] for name, way in ways.items()}


def through_the_autoencoder(pictures: Pictures) -> Pictures:
    round_trip = RoundTrip(world_folder() / "autoencoder.safetensors")
    return [back for at in range(0, len(pictures), 50) for back in round_trip(pictures[at : at + 50])]


def right(scenes: Sequence[Scene], seen: Sequence[Seen]) -> dict[str, float]:
    """The share of pictures whose attribute is read as it was drawn, by attribute."""
    return {
        name: float(np.mean([s.attributes[name] == d.attributes[name] for s, d in zip(seen, scenes, strict=True)]))
        for name in ATTRIBUTES
    }


def main() -> int:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else SCENES
    drawn = random.Random("reader")
    scenes = [random_scene(drawn) for _ in range(count)]
    pictures = [draw(scene, drawn) for scene in scenes]
    ways = dict(spoilt(pictures))
    if (world_folder() / "autoencoder.safetensors").is_file():
        ways["autoencoder"] = through_the_autoencoder(pictures)
    for way, found in ways.items():
        shares = right(scenes, [read(picture) for picture in found])
        print(f"{way:12}", "  ".join(f"{name} {share:.3f}" for name, share in shares.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
