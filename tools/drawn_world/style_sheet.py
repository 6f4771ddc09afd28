"""Five references in five styles, and what three prompts become by "use the style": a sheet.

    PYTHONPATH=tools python -m drawn_world.style_sheet [--output docs/world_styles.png]

No reference's pair of concept and style was ever one in training. `cli.py evaluate` makes the pictures.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from comfyhost.in_process import pack_module
from comfyhost.places import REPO_ROOT
from PIL import Image

from drawn_world.scenes.drawing import draw
from drawn_world.scenes.scene import NATURAL, Scene
from drawn_world.scenes.words import CAPTIONED, plain_caption
from drawn_world.table import OUTPUT, Condition, evaluate

LARGER = 3
TOLD = tuple(name for name in CAPTIONED if name != "style")
REFERENCES = (
    Scene(("mushroom",), "glossy", NATURAL, ("middle",), "white"),
    Scene(("bell",), "pictogram", NATURAL, ("middle",), "white"),
    Scene(("pig",), "cartoon", NATURAL, ("middle",), "white"),
    Scene(("crown",), "flat", NATURAL, ("middle",), "white"),
    Scene(("tiger",), "shaded", NATURAL, ("middle",), "white"),
)
PROMPTS = (
    Scene(("pizza",), "", NATURAL, ("left",), "mint"),
    Scene(("dog",), "", NATURAL, ("middle",), "stripes"),
    Scene(("palm",), "", NATURAL, ("right",), "sky"),
)


def made(output: Path) -> np.ndarray:
    """The pictures [N, 96, 96, 3]: the references, then a row for each prompt."""
    tried = [Condition("style", reference, prompt, TOLD) for prompt in PROMPTS for reference in REFERENCES]
    lines = evaluate(output, tried, ["joint"], "--weight=1")
    files = {line["reference"]: output / "images" / line["image"] for line in lines}
    names = [condition.row(number)["reference"] for number, condition in enumerate(tried)]
    pictures = [np.asarray(Image.open(files[name]).convert("RGB"), np.float32) / 255 for name in names]
    return np.stack([*map(draw, REFERENCES), *pictures]).astype(np.float32)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=REPO_ROOT / "docs" / "world_styles.png")
    wanted = parser.parse_args()
    cells = torch.from_numpy(made(OUTPUT / "styles"))
    cells = cells.repeat_interleave(LARGER, 1).repeat_interleave(LARGER, 2)
    rows = ["the picture", *(plain_caption(prompt, TOLD) for prompt in PROMPTS)]
    columns = [f"{reference.style} {reference.concepts[0]}" for reference in REFERENCES]
    grid = pack_module("models.drawing.label_sheet").labelled_grid(cells, rows, columns)[0]
    Image.fromarray((grid.numpy() * 255).round().astype("uint8")).save(wanted.output)
    print(wanted.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
