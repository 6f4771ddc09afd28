"""A whole comparison, from what a user has typed to a table."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from ...models.files.atomic_write import whole
from ...models.guidance.tasks import SIMPLE
from ...models.messages import check_numbers, some
from ..servers.journal import Journal, write_file
from ..train import import_comfyui
from . import libraries
from .encoders import Encoder, comfyui_encoder, dino_encoder, open_clip_encoder
from .judge import Judge, judged
from .making import Maker, shipped_workflow
from .manifest import Manifest, read_manifest
from .plan import ANY_TASK, NO_ADAPTER, ONE_A_TASK, Contender, Setting, Trial, trials
from .readers import NEUTRAL_PROMPT, read_dreambench, read_identities
from .scoring import Image, Scored, Scorers, images_of, scored
from .sheet import sheet
from .table import as_json, as_markdown, lines_of

OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
HEAVIEST = 3.0
FAILURES_SHOWN = 5  # failures in the table's notes
TOLD_EVERY = 5.0  # seconds between lines


def compare(wanted: argparse.Namespace) -> int:
    """Make, score and write. Return 1 when some images could not be made; the table then says so."""
    manifest, contenders = read_rows(wanted), read_contenders(wanted)
    asked = trials(manifest, contenders, settings(wanted))
    maker = Maker.of(wanted.workflow or shipped_workflow(wanted.family), wanted.output, manifest)
    check_scores(wanted)
    if not asked:
        raise ValueError("A row for one of the tasks was expected; the manifest has none. Name another --task-adapter.")
    files, failed = maker.make(asked, wanted.server)
    images = images_of(manifest, asked, files)
    if not images:
        raise ValueError("\n".join(["No image was made.", *failed[:FAILURES_SHOWN]]))
    found = score(wanted, images)
    write(wanted.output, asked, contenders, found, failed)
    return 1 if failed else 0


def read_rows(wanted: argparse.Namespace) -> Manifest:
    if wanted.dreambench:
        return read_dreambench(wanted.dreambench)
    if wanted.identities:
        check_numbers(1, 1000, seeds=wanted.seeds)
        return read_identities(wanted.identities, wanted.prompt or [NEUTRAL_PROMPT], wanted.seeds)
    return read_manifest(wanted.manifest)


def read_contenders(wanted: argparse.Namespace) -> list[Contender]:
    """Return the lines of the table. Raises ValueError for what cannot be told apart, and for none."""
    plain = [Contender(label, {ANY_TASK: name}) for label, name in map(_named, wanted.adapter)]
    fixed = [Contender(label, {ANY_TASK: name}, fixed=True) for label, name in map(_named, wanted.fixed_adapter)]
    tasks = [_named(text) for text in wanted.task_adapter]
    each = [Contender(ONE_A_TASK, dict(tasks))] if tasks else []
    found = [*plain, *each, *fixed]
    if not found:
        raise ValueError("An adapter was expected; none is named. Say --adapter LABEL=NAME.")
    if wanted.no_adapter:
        any_file = next(iter(found[0].files.values()))
        found.append(Contender(NO_ADAPTER, {ANY_TASK: any_file}, bare=True))
    for kind, names in (("label", [one.label for one in found]), ("task", [task for task, _ in tasks])):
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"A {kind} of its own was expected for each adapter; {twice[0]} is named twice.")
    return found


def _named(text: str) -> tuple[str, str]:
    label, _, name = text.partition("=")
    if not label.strip() or not name.strip():
        raise ValueError(f"LABEL=NAME was expected, such as joint=ip-adapter-instruct-sd15.bin; it is {text!r}.")
    return label.strip(), name.strip()


def settings(wanted: argparse.Namespace) -> list[Setting]:
    weights, guidances = wanted.weight or [0.8], wanted.guidance or [SIMPLE]
    for weight in weights:
        check_numbers(-HEAVIEST, HEAVIEST, weight=weight)
    return [Setting(weight, guidance) for weight in dict.fromkeys(weights) for guidance in dict.fromkeys(guidances)]


def check_scores(wanted: argparse.Namespace) -> None:
    """Raises ValueError, before anything is made, for scores that lack a file or a package."""
    if bool(wanted.clip_vision) != bool(wanted.clip_text):
        raise ValueError("--clip-vision and --clip-text were expected together; one is missing. They may be one file.")
    if wanted.clip_vision and wanted.open_clip:
        raise ValueError("One CLIP was expected; two are named. Leave --open-clip or --clip-vision out.")
    named = [wanted.clip_vision, wanted.clip_text, wanted.dino, wanted.faces, wanted.judge_prompts]
    named += [Path(wanted.open_clip[1])] if wanted.open_clip else []
    for path in filter(None, named):
        if not path.exists():
            raise ValueError(f"A file or folder was expected at {path}; there is none. Correct the path.")
    if wanted.fid:
        libraries.check_frechet_distance()
    if wanted.lpips:
        libraries.check_perceptual_distance()
    check_numbers(1, 100, judge_runs=wanted.judge_runs)


def score(wanted: argparse.Namespace, images: Mapping[str, Image]) -> Scored:
    """Compute every score that was asked for."""
    tell = Teller()
    found = scored(images, scorers(wanted), wanted.output / "cache", tell)
    if wanted.judge:
        judge = Judge(wanted.judge, wanted.judge_model, wanted.judge_runs, wanted.judge_prompts)
        with Journal(wanted.output / "judge.jsonl") as journal:
            found.values |= judged(images, judge, journal, tell)
    return found


def scorers(wanted: argparse.Namespace) -> Scorers:
    os.environ.update(dict.fromkeys(OFFLINE, "1"))  # before their library is imported
    if wanted.clip_vision or (wanted.dino and wanted.dino.is_file()):
        import_comfyui(Path(wanted.comfyui), wanted.cpu)
    if not any((wanted.open_clip, wanted.clip_vision, wanted.dino, wanted.faces, wanted.fid, wanted.lpips)):
        return Scorers()
    device = "cuda" if torch.cuda.is_available() and not wanted.cpu else "cpu"
    return Scorers(
        clip=_clip(wanted, device),
        dino=dino_encoder(wanted.dino, device) if wanted.dino else None,
        face=libraries.face_encoder(wanted.faces) if wanted.faces else None,
        fid=libraries.frechet_distance(device) if wanted.fid else None,
        lpips=libraries.perceptual_distance(device) if wanted.lpips else None,
    )


def _clip(wanted: argparse.Namespace, device: str) -> Encoder | None:
    if wanted.open_clip:
        name, file = wanted.open_clip
        return open_clip_encoder(name, Path(file), device)
    return comfyui_encoder(wanted.clip_vision, wanted.clip_text) if wanted.clip_vision else None


class Teller:
    """Says how far a long work is, now and then."""

    def __init__(self):
        self.said = time.monotonic()

    def __call__(self, done: int, count: int, what: str) -> None:
        if time.monotonic() > self.said + TOLD_EVERY or done == count:
            self.said = time.monotonic()
            print(f"{what}: {done:,} of {count:,}", file=sys.stderr, flush=True)


def write(
    output: Path, asked: Sequence[Trial], contenders: Sequence[Contender], found: Scored, failed: Sequence[str]
) -> None:
    """Write table.md, table.json, scores.jsonl and sheet.png, each whole or not at all."""
    lines = lines_of(asked, found, [contender.label for contender in contenders])
    by = {name: encoder.name for name, encoder in found.scorers.encoders().items()}
    notes = [f"{name} by {words}." for name, words in by.items()]
    if failed:
        notes.append(f"{len(failed)} images could not be made: {some(failed, FAILURES_SHOWN)}")
    parts = {
        "table.md": as_markdown(lines, notes).encode(),
        "table.json": as_json(lines, {"encoders": by, "failed": list(failed)}).encode(),
        "scores.jsonl": b"".join(json.dumps(line).encode() + b"\n" for line in _by_image(asked, found)),
    }
    for name, content in parts.items():
        write_file(content, output / name)
    with whole(output / "sheet.png") as part:
        sheet(asked, found.images, contenders).save(part, "PNG")
    print(as_markdown(lines, notes))
    print(f"Written: {', '.join(str(output / name) for name in (*parts, 'sheet.png'))}")


def _by_image(asked: Sequence[Trial], found: Scored) -> list[dict]:
    lines = [
        {
            "image": found.images[trial.key].path.name,
            "reference": trial.row.reference,
            "task": trial.row.task,
            "instruction": trial.instruction,
            "prompt": trial.row.prompt,
            "seed": trial.row.seed,
            **dict(zip(("adapter", "weight", "guidance"), trial.line, strict=True)),
            **{name: round(values[trial.key], 6) for name, values in found.values.items() if trial.key in values},
        }
        for trial in asked
        if trial.key in found.images
    ]
    return sorted(lines, key=lambda line: json.dumps(line, sort_keys=True))
