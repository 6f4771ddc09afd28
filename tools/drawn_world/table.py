"""The paper's table in the drawn world: does an instruction decide what crosses over from a picture?

    PYTHONPATH=tools python -m drawn_world.table [--count 50] [--adapters joint fixed style ...] [--weights 1.0 ...]

References are of pairs of concept and style that were never one in training, and instructions of held-out wordings. The
prompt's scene differs in every attribute; it is told but for what is asked for, or, contradicting, whole.
`cli.py evaluate` makes the pictures on a server and scores them as the paper does, and what they show is read by the
nearest of all scenes. Run again after it was stopped, it makes what is missing. Writes output/drawn_world/.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from comfyhost.install import exit_code, say
from comfyhost.places import REPO_ROOT, ToolError
from comfyhost.server import ComfyServer, link
from ipadapter_instruct.commands.pairs.written import read_lines
from ipadapter_instruct.commands.servers.client import Client
from PIL import Image
from safetensors.torch import load_file

from drawn_world.adapter.train_resampler import FIXED, NAMES
from drawn_world.files import IMAGE_ENCODER, JOINT, TEXT_ENCODER, adapter_name, build, comfyui_of_the_world
from drawn_world.models.image_encoder import DILATIONS, LAYERS
from drawn_world.models.wide_image_encoder import LAYER
from drawn_world.scenes.judge import nearest_scene
from drawn_world.scenes.scene import ATTRIBUTES, HELD_OUT, NATURAL, TASKS, Scene, random_prompt_scene, random_scene
from drawn_world.scenes.words import CAPTIONED, PLAIN, held_out_wordings, plain_caption
from drawn_world.sheet import single, write_picture
from drawn_world.storage import note_of, save_tensors, world_folder

OUTPUT = REPO_ROOT / "output" / "drawn_world"
COUNT, NOTHING = 50, "a drawing"  # pictures; a prompt that says nothing
SHALLOW = "drawn_world_vit_h_shallow.safetensors"


@dataclass(frozen=True)
class Condition:
    task: str
    reference: Scene
    prompt: Scene
    told: tuple[str, ...]

    def row(self, number: int) -> dict:
        """A line of the manifest; the plain wording first, which adapters of fixed words are asked in."""
        return {
            "reference": f"{self.task}-{number}.png",
            "task": self.task,
            "instruction": [PLAIN[self.task], *held_out_wordings(self.task)],
            "prompt": plain_caption(self.prompt, self.told) or NOTHING,
            "seed": number,
            "caption": plain_caption(self.reference),
        }


def conditions(task: str, count: int, contradicting: bool = False) -> list[Condition]:
    """Conditions of a task, always the same ones."""
    drawn, made = random.Random(f"conditions for {task}"), []
    told = tuple(name for name in CAPTIONED if contradicting or name not in TASKS[task])
    while len(made) < count:
        reference = random_scene(drawn, sorted(HELD_OUT))
        if task == "colour" and reference.tint == NATURAL:
            continue
        made.append(Condition(task, reference, unlike(task, reference, drawn), told))
    return made


def unlike(task: str, reference: Scene, drawn: random.Random) -> Scene:
    """A scene that differs in every attribute, of as many drawings as the reference where the task needs that."""
    while True:
        scene = random_prompt_scene(task, reference, drawn)
        differs = all(getattr(scene, name) != getattr(reference, name) for name in ATTRIBUTES)
        if differs and not set(scene.concepts) & set(reference.concepts):
            return scene


def outcome(tried: Sequence[Condition], shown: Sequence[Scene]) -> dict:
    """Shares of pictures, of conditions of one task.

    asked: what was asked for came from the reference. others: the rest came from the prompt, and leak: from the
    reference; of several attributes always the worst.
    """
    asked = TASKS[tried[0].task]

    def share(whose: str, name: str) -> float:
        pairs = zip(tried, shown, strict=True)
        return float(np.mean([getattr(s, name) == getattr(getattr(c, whose), name) for c, s in pairs]))

    shares = {whose: {name: share(whose, name) for name in ATTRIBUTES} for whose in ("reference", "prompt")}
    rest = [name for name in ATTRIBUTES if name not in asked]
    return {
        "count": len(tried),
        "asked": min(shares["reference"][name] for name in asked),
        "others": min((shares["prompt"][name] for name in rest), default=None),
        "leak": max((shares["reference"][name] for name in rest), default=None),
        **shares,
    }


def write_manifest(folder: Path, tried: Sequence[Condition]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for number, condition in enumerate(tried):
        row = condition.row(number)
        write_picture(condition.reference, folder / row["reference"])
        lines.append(json.dumps(row) + "\n")
    (folder / "manifest.jsonl").write_text("".join(lines), encoding="utf-8")


def text_encoder_with_projection() -> Path:
    """The text encoder's file for CLIP scores, whose embeddings are its own first channels, as the pictures' are."""
    path, source = world_folder() / "scores_clip_l.safetensors", build(TEXT_ENCODER)
    if note_of(path) != note_of(source):
        tensors = {**load_file(source), "text_projection.weight": torch.eye(1024, 768)}
        save_tensors(tensors, path, note_of(source))
    return path


def shallow_encoder() -> Path:
    """The image encoder's file without the layers that only pass on what comes: it gives the same, sooner."""
    path, source = world_folder() / SHALLOW, build(IMAGE_ENCODER)
    if note_of(path) != note_of(source):
        idle = tuple(f"{LAYER}{number}." for number in range(1 + len(DILATIONS), LAYERS - 1))
        whole, last = load_file(source), f"{LAYER}{LAYERS - 1}."
        kept = {name.replace(last, idle[0]): part for name, part in whole.items() if not name.startswith(idle)}
        save_tensors(kept, path, note_of(source))
    return path


def evaluate(folder: Path, tried: Sequence[Condition], adapters: Sequence[str], *how: str) -> list[dict]:
    """Have the pack's command make and score pictures; return its lines, each with the scene that the picture shows."""
    write_manifest(folder / "rows", tried)
    given = {JOINT: ("--adapter", "joint"), FIXED: ("--fixed-adapter", "fixed")}
    named = [(given.get(name) or ("--task-adapter", name), adapter_name(name)) for name in adapters]
    files = {"manifest": folder / "rows" / "manifest.jsonl", "workflow": folder / "workflow.json"}
    files |= {"clip-vision": shallow_encoder(), "clip-text": text_encoder_with_projection()}
    comfyui = comfyui_of_the_world(adapters)
    link(comfyui.models / "clip_vision" / SHALLOW, files["clip-vision"])
    with ComfyServer(comfyui) as server:
        with Client(server.url) as client:
            workflow = single(client.object_info(), adapter_name(adapters[0]), SHALLOW)
        files["workflow"].write_text(json.dumps(workflow), encoding="utf-8")
        who = [part for (option, label), name in named for part in (option, f"{label}={name}")]
        where = {"server": server.url, "comfyui": comfyui.comfyui, "output": folder}
        command("evaluate", "--cpu", *who, *how, **where, **files)
    lines = read_lines(folder / "scores.jsonl")
    return [{**line, "shows": shown_on(folder / "images" / line["image"])} for line in lines]


def command(name: str, *words: str, **given: object) -> None:
    """Run a command of cli.py's. Raises ToolError when it fails."""
    began, whole = time.monotonic(), [sys.executable, str(REPO_ROOT / "cli.py"), name, *words]
    for option, value in given.items():
        whole += [f"--{option.replace('_', '-')}", str(value)]
    if subprocess.run(whole).returncode:
        raise ToolError(f"cli.py {name} ended early; what it said is above. Run this again to go on.")
    say(f"cli.py {name}: {time.monotonic() - began:.0f} s\n")


def shown_on(path: Path) -> Scene:
    return nearest_scene(np.asarray(Image.open(path).convert("RGB"), np.float32) / 255)


def rows_of(lines: Sequence[dict], tried: Sequence[Condition], note: str = "") -> list[dict]:
    """A row for each adapter, weight, guidance and task."""
    by_picture = {condition.row(number)["reference"]: condition for number, condition in enumerate(tried)}
    rows: dict[tuple, list[dict]] = {}
    for line in lines:
        key = (line["adapter"], line["weight"], line["guidance"] + note, line["task"])
        rows.setdefault(key, []).append(line)
    heads = ("adapter", "weight", "guidance", "task")
    return [
        {
            **dict(zip(heads, key, strict=True)),
            **outcome([by_picture[line["reference"]] for line in some], [line["shows"] for line in some]),
            **{f"CLIP-{letter}": float(np.mean([line[f"CLIP-{letter}"] for line in some])) for letter in "ITPS"},
        }
        for key, some in rows.items()
    ]


def as_markdown(rows: Sequence[dict]) -> str:
    """A line for each adapter and setting: asked / others / leak of each task."""
    lines = [f"| asked / others / leak | {' | '.join(TASKS)} |", "|" + " --- |" * (len(TASKS) + 1)]
    for key in dict.fromkeys((row["adapter"], row["weight"], row["guidance"]) for row in rows):
        cells = {row["task"]: row for row in rows if (row["adapter"], row["weight"], row["guidance"]) == key}
        told = [
            " / ".join(f"{cells[task][of]:.2f}" for of in ("asked", "others", "leak") if cells[task][of] is not None)
            if task in cells
            else ""
            for task in TASKS
        ]
        lines.append(f"| {key[0]}, weight {key[1]:g}, {key[2]} | {' | '.join(told)} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=COUNT, help="pictures a task, adapter, weight and guidance")
    parser.add_argument("--adapters", nargs="+", choices=NAMES, default=list(NAMES))
    parser.add_argument("--weights", nargs="+", type=float, default=[1.0])
    parser.add_argument("--guidances", nargs="+", choices=("simple", "three-way"), default=["simple"])
    parser.add_argument("--contradicting", action="store_true", help="prompts tell what is asked for, too")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    wanted = parser.parse_args()
    return exit_code(lambda: measure(wanted))


def measure(wanted: argparse.Namespace) -> None:
    tried = [one for task in TASKS for one in conditions(task, wanted.count, wanted.contradicting)]
    how = [f"--weight={weight}" for weight in wanted.weights]
    how += [f"--guidance={guidance}" for guidance in wanted.guidances]
    lines = evaluate(wanted.output, tried, wanted.adapters, *how)
    rows = rows_of(lines, tried, ", the prompt contradicts" if wanted.contradicting else "")
    (wanted.output / "world.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")
    (wanted.output / "world.md").write_text(as_markdown(rows), encoding="utf-8")
    print(as_markdown(rows))


if __name__ == "__main__":
    sys.exit(main())
