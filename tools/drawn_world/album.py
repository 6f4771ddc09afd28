"""The world's pictures as a user has his own: files beside their masks, and lines for `cli.py pairs`.

A new picture is to show another scene, told without what its task takes from the first. An object is cut out of its
picture instead, which is then what should come out, told without the object.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from drawn_world.scenes.drawing import draw, ground
from drawn_world.scenes.scene import NATURAL, REFERENCES, TASKS, Scene, random_scene
from drawn_world.scenes.words import CAPTIONED, plain_caption
from drawn_world.sheet import write_picture
from drawn_world.table import Condition, unlike

OF_ITSELF = ("everything", "object")  # tasks whose new picture is the picture itself


def random_scenes(count: int) -> list[Scene]:
    """Different scenes of one drawing each, always the same ones, and of no pair that is held out."""
    drawn, scenes = random.Random("album"), {}
    while len(scenes) < count:
        scenes[random_scene(drawn, REFERENCES, pairs=0.0)] = None
    return [*scenes]


def conditions(task: str, scenes: Sequence[Scene], prompts: int) -> dict[tuple[str, str], Condition]:
    """A task's conditions, by the words for the picture and for what it is to become.

    No colour is taken from a drawing in its natural ones.
    """
    found, told = {}, tuple(name for name in CAPTIONED if name not in TASKS[task])
    for scene in (one for one in scenes if task != "colour" or one.tint != NATURAL):
        drawn = random.Random(f"{task} {scene}")
        for _ in range(1 if task in OF_ITSELF else prompts):
            other = scene if task == "object" else unlike(task, scene, drawn)
            row = (condition := Condition(task, scene, other, told)).row(0)
            found[row["caption"], row["prompt"]] = condition
    return found


def write(folder: Path, scenes: Sequence[Scene], by_task: Mapping[str, Mapping[tuple[str, str], Condition]]) -> None:
    """Write a picture of each scene that is called what it shows, with a mask of its drawing; and each task's lines."""
    folder.mkdir(parents=True, exist_ok=True)
    for scene in scenes:
        write_picture(scene, folder / f"{plain_caption(scene)}.png")
        mask = 1 - draw(scene, change=lambda drawing: drawing * (0, 0, 0, 1)) / ground(scene.ground)
        Image.fromarray((mask * 255).round().astype(np.uint8)).save(folder / f"{plain_caption(scene)}.mask.png")
    for task, found in by_task.items():
        lines = []
        for (told, prompt), condition in found.items():
            line = {"picture": f"{told}.png", "mask": f"{told}.mask.png", "caption": told, "prompt": prompt}
            lines.append({**line, "object": condition.reference.concepts[0]} if task == "object" else line)
        (folder / f"{task}.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
