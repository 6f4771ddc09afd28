"""Sets of pairs that cli.py pairs makes of drawn pictures, for its tests."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from comfyhost.places import REPO_ROOT
from PIL import Image, ImageDraw

from support.patience import PATIENCE

SIDE = 96


def draw(folder: Path, count: int, people: int = 2) -> Path:
    """Pictures of coloured discs, with captions, masks, poses and the names of what they show."""
    for number in range(count):
        person = folder / f"person-{number % people}"
        person.mkdir(parents=True, exist_ok=True)
        colour = tuple(np.random.default_rng(number).integers(0, 256, 3).tolist())
        stem = person / f"{number}"
        for suffix, ground, disc in ((".png", (40, 40, 40 + number), colour), (".mask.png", (0,) * 3, (255,) * 3)):
            picture = Image.new("RGB", (SIDE, SIDE), ground)
            ImageDraw.Draw(picture).ellipse((20, 20, 70 + number % 9, 80), disc)
            picture.save(f"{stem}{suffix}")
        Image.new("RGB", (SIDE, SIDE), (0, 0, number)).save(f"{stem}.pose.png")
        Path(f"{stem}.txt").write_text(f"a disc, number {number}", encoding="utf-8")
        Path(f"{stem}.object.txt").write_text("disc", encoding="utf-8")
    return folder


def command(task: str, pictures: Path, output: Path, *more: str, servers=()) -> list[str]:
    named = [word for server in servers for word in ("--server", server.url)]
    where = ["--task", task, "--pictures", str(pictures), "--output", str(output)]
    return [sys.executable, str(REPO_ROOT / "cli.py"), "pairs", *where, *named, *more]


def pairs(*arguments, **more) -> subprocess.CompletedProcess:
    return subprocess.run(command(*arguments, **more), capture_output=True, text=True, timeout=PATIENCE)


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB")).astype(int)
