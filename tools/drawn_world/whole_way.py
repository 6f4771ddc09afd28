"""The whole way from pictures to a table by the pack's own commands, in the drawn world: `make world-way`.

    PYTHONPATH=tools python -m drawn_world.whole_way [--pictures 64] [--prompts 2] [--steps 100] [--task-steps 20]

`cli.py pairs` makes pairs of drawn pictures on a real ComfyUI, `train` makes an adapter for all tasks, one for each and
one of fixed instructions of them, `evaluate` tries them on what was held out, and `instructions` draws the map of
wordings. The table has the paper's scores beside what the pictures show. Run again, it goes on.

Everything and object are made by the shipped recipes. What the others need, such as a ControlNet, the world has not:
there the stored adapter draws the new picture, asked for the task. All that are trained begin with that adapter.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from comfyhost.install import exit_code
from comfyhost.places import REPO_ROOT, host
from comfyhost.server import ComfyServer, end_on_terminate
from ipadapter_instruct.commands.pairs.written import read_lines
from ipadapter_instruct.commands.servers.client import Client

from drawn_world import album
from drawn_world.adapter.train_resampler import FIXED
from drawn_world.files import CHECKPOINT, JOINT, TEXT_ENCODER, adapter_file, build, link_all
from drawn_world.scenes.scene import GROUNDS, SIDE, TASKS
from drawn_world.scenes.words import held_out_wordings
from drawn_world.sheet import pairs_workflow
from drawn_world.table import (
    SHALLOW,
    Condition,
    command,
    outcome,
    shallow_encoder,
    shown_on,
    text_encoder_with_projection,
)

BEFORE = "before training"
SCORES = ("CLIP-I", "CLIP-T", "CLIP-P", "CLIP-S")
COLUMNS = ("task", "adapter", "images", *SCORES, "asked", "others", "leak")
HOW = {"batch-size": 16, "learning-rate": 1e-4, "lr-warmup-steps": 10, "ema-decay": 0.98, "mixed-precision": "bf16"}


class Way:
    """A folder to do everything in, and how much is done there, as the command line says."""

    def __init__(self, wanted: argparse.Namespace):
        self.wanted, self.folder = wanted, wanted.output.absolute()
        self.pictures, self.pairs, self.models = (self.folder / name for name in ("pictures", "pairs", "models"))
        self.scenes = album.random_scenes(wanted.pictures)
        self.conditions = {task: album.conditions(task, self.scenes, wanted.prompts) for task in wanted.tasks}

    def go(self) -> None:
        album.write(self.pictures, self.scenes, self.conditions)
        with self.server() as url:
            for task in self.wanted.tasks:
                own = [] if task == "everything" else ["--workflow", str(self.folder / f"{task}.json")]
                files = {"pictures": self.pictures / f"{task}.jsonl", "output": self.pairs}
                command("pairs", *own, task=task, held_out=self.wanted.held_out, server=url, **files)
        for name in (JOINT, *self.wanted.tasks, FIXED):
            self.train(name)
        with self.server() as url:
            self.evaluate(url)
        wordings = self.folder / "wordings.json"
        wordings.write_text(json.dumps({task: held_out_wordings(task) for task in TASKS}), encoding="utf-8")
        files = {"text-encoder": build(TEXT_ENCODER), "wordings": wordings, "plot": self.folder / "map.png"}
        command("instructions", "--cpu", comfyui=host().comfyui, **files)
        lines = (f"| {' | '.join(row)} |" for row in (COLUMNS, ("---",) * len(COLUMNS), *self.rows()))
        (self.folder / "table.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
        print((self.folder / "table.md").read_text(encoding="utf-8"))

    @contextmanager
    def server(self) -> Iterator[str]:
        """A ComfyUI with the world's files and those that were trained; its workflows are written."""
        files = {f"checkpoints/{CHECKPOINT}": build(CHECKPOINT), f"text_encoders/{TEXT_ENCODER}": build(TEXT_ENCODER)}
        files |= {f"clip_vision/{SHALLOW}": shallow_encoder(), f"ipadapter/{BEFORE}.safetensors": adapter_file(JOINT)}
        link_all(self.models, files)
        with ComfyServer(replace(host(), models=self.models)) as server:
            with Client(server.url) as client:
                object_info = client.object_info()
            workflows = {task: pairs_workflow(task, object_info, f"{BEFORE}.safetensors", SHALLOW) for task in TASKS}
            for task, workflow in {**workflows, "object": plain_cut_out()}.items():
                (self.folder / f"{task}.json").write_text(json.dumps(workflow), encoding="utf-8")
            yield server.url

    def train(self, name: str) -> None:
        files = {"text-encoder": build(TEXT_ENCODER), "clip-vision": shallow_encoder(), "comfyui": host().comfyui}
        files |= {"output": self.models / "ipadapter" / f"{name}.safetensors", "initial-adapter": adapter_file(JOINT)}
        files |= {"work": self.folder / "training" / name, "cache": self.folder / "cache", "resolution": SIDE}
        files |= {"checkpoint": build(CHECKPOINT), "data": self.pairs / name if name in TASKS else self.pairs}
        steps = self.wanted.task_steps if name in TASKS else self.wanted.steps
        fixed = ["--fixed-instructions"] if name == FIXED else []
        command("train", *fixed, "--cpu", max_train_steps=steps, checkpointing_steps=50, **files, **HOW)

    def evaluate(self, url: str) -> None:
        who = ["--adapter", f"{JOINT}={JOINT}.safetensors", "--adapter", f"{BEFORE}={BEFORE}.safetensors"]
        who += [word for task in self.wanted.tasks for word in ("--task-adapter", f"{task}={task}.safetensors")]
        who += ["--fixed-adapter", f"{FIXED}={FIXED}.safetensors", "--no-adapter", "--cpu"]
        files = {"manifest": self.pairs / "held_out.jsonl", "workflow": self.folder / "everything.json"}
        files |= {"clip-vision": shallow_encoder(), "clip-text": text_encoder_with_projection(), "weight": 1}
        command("evaluate", *who, server=url, output=self.folder / "compared", comfyui=host().comfyui, **files)

    def rows(self) -> Iterator[Sequence[str]]:
        """Yield the table's rows: for each task the pairs that were made, and what each adapter makes."""
        compared = self.folder / "compared"
        lines = json.loads((compared / "table.json").read_text(encoding="utf-8"))["lines"]
        images, manifest = read_lines(compared / "scores.jsonl"), read_lines(self.pairs / "held_out.jsonl")
        told = {(row["task"], row["reference"], row["prompt"]): row["caption"] for row in manifest}
        for task, found in self.conditions.items():
            if task not in album.OF_ITSELF:
                yield self.row_of_pairs(task)
            for line in (one for one in lines if one["task"] == task):
                own = [one for one in images if (one["task"], one["adapter"]) == (task, line["adapter"])]
                tried = [found[told[task, one["reference"], one["prompt"]], one["prompt"]] for one in own]
                means = [f"{line['scores'][name]['mean']:.3f}" for name in SCORES]
                shown = cells(tried, [compared / "images" / one["image"] for one in own])
                yield task, line["adapter"], str(len(own)), *means, *shown

    def row_of_pairs(self, task: str) -> Sequence[str]:
        """The row of a task's pairs: how right their new pictures are."""
        told = {path.read_bytes(): path.stem for path in self.pictures.glob("*.png")}
        folder, made = self.pairs / task, read_lines(self.pairs / task / "pairs.jsonl")
        tried = [self.conditions[task][told[(folder / one["reference"]).read_bytes()], one["caption"]] for one in made]
        shown = cells(tried, [folder / one["target"] for one in made])
        return task, "its pairs", str(len(made)), *[""] * len(SCORES), *shown


def cells(tried: Sequence[Condition], pictures: Sequence[Path]) -> list[str]:
    """The table's last cells, by what pictures show. Nothing can leak where the prompt tells the same scene."""
    found = outcome(tried, [shown_on(picture) for picture in pictures])
    if all(one.reference == one.prompt for one in tried):
        found["leak"] = None
    return ["" if found[name] is None else f"{found[name]:.2f}" for name in COLUMNS[-3:]]


def plain_cut_out() -> dict:
    """The shipped recipe for objects, changed as a user would: what is cut out stays in its place, on grey."""
    workflow = json.loads((REPO_ROOT / "workflows" / "pairs_cut_out.json").read_text(encoding="utf-8"))
    (node,) = (node for node in workflow["nodes"] if node["type"] == "IPAdapterInstructPrepare")
    node["title"], node["widgets_values"][:2] = "Seed", ["cut out", "#{:02x}{:02x}{:02x}".format(*GROUNDS["grey"][0])]
    return workflow


def main(arguments: Sequence[str] | None = None) -> int:
    end_on_terminate()
    parser = argparse.ArgumentParser(prog="drawn_world.whole_way", description=str(__doc__).splitlines()[0])
    parser.add_argument("--output", type=Path, default=REPO_ROOT / "output" / "whole_way", help="folder for everything")
    for name, default, what in (
        *(("pictures", 64, "drawn scenes"), ("prompts", 2, "new pictures of each, by tasks that draw them")),
        *(("held-out", 12, "pairs of each task to evaluate by"), ("steps", 100, "of the adapters for all tasks")),
        ("task-steps", 20, "of the adapters for one"),
    ):
        parser.add_argument(f"--{name}", type=int, default=default, help=what)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    return exit_code(Way(parser.parse_args(arguments)).go)


if __name__ == "__main__":
    sys.exit(main())
