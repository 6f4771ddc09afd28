"""Compare adapters: make images for the rows of a manifest on ComfyUI servers, score them, and write a table.

    python custom_nodes/ipadapter-instruct/cli.py evaluate --manifest set/manifest.jsonl --output compared \\
        --server http://127.0.0.1:8188 --adapter joint=ip-adapter-instruct-sd15.bin --adapter mine=mine.safetensors \\
        --adapter "IP-Adapter Plus=ip-adapter-plus_sd15.safetensors" --no-adapter \\
        --open-clip ViT-H-14 models/clip/open_clip_pytorch_model.bin

A line of the manifest looks like
    {"reference": "a.png", "task": "style", "prompt": "a boat at sea", "seed": 7, "caption": "a cat on a sofa"}

Run again after it was stopped, or with more adapters or scores, it makes only what is missing. Nothing is downloaded,
and no address is called but the servers and, where one is named, the judge.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ...models.families import FAMILIES
from ...models.guidance.tasks import AUTO, SIMPLE, THREE_WAY
from .. import ROOT
from .readers import NEUTRAL_PROMPT

PLACE = "FILE or FOLDER"


def run(wanted: argparse.Namespace) -> int:
    """Return 0, or 1 when images could not be made. Raises ValueError or OSError when nothing can be compared."""
    from .comparison import compare

    return compare(wanted)


def add_arguments(made: argparse.ArgumentParser) -> None:
    rows = made.add_argument_group("what is tried")
    given = rows.add_mutually_exclusive_group(required=True)
    given.add_argument("--manifest", type=Path, metavar="FILE", help="JSON lines, beside their references")
    given.add_argument("--dreambench", type=Path, metavar="FOLDER", help="DreamBench++'s data, unpacked")
    given.add_argument("--identities", type=Path, metavar="FOLDER", help="a folder of pictures for each person")
    rows.add_argument(
        "--prompt", action="append", metavar="TEXT", help=f'of --identities; repeatable; without, "{NEUTRAL_PROMPT}"'
    )
    rows.add_argument("--seeds", type=int, default=1, help="of --identities: images for each picture and prompt")
    who = made.add_argument_group("adapters, by the names that ComfyUI lists; the first three are repeatable")
    who.add_argument(
        "--adapter", action="append", default=[], metavar="LABEL=NAME", help="asked in one of many wordings"
    )
    who.add_argument(
        "--fixed-adapter", action="append", default=[], metavar="LABEL=NAME", help="asked in each task's plain words"
    )
    who.add_argument(
        "--task-adapter", action="append", default=[], metavar="TASK=NAME", help="one for this task; together a line"
    )
    who.add_argument("--no-adapter", action="store_true", help="also a line without any")
    who.add_argument("--weight", type=float, action="append", help="how strongly they act; repeatable; without, 0.8")
    who.add_argument(
        "--guidance",
        action="append",
        choices=[SIMPLE, THREE_WAY, AUTO],
        help=f"repeatable; without, {SIMPLE}; {AUTO} changes the weight for some tasks",
    )
    how = made.add_argument_group("how images are made")
    how.add_argument("--server", action="append", default=[], metavar="URL", help="a running ComfyUI; repeatable")
    families = [family.name for family in FAMILIES]
    how.add_argument("--family", choices=families, default=families[0], help="whose shipped workflow makes them")
    how.add_argument("--workflow", type=Path, metavar="FILE", help="your own in its place")
    how.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="for images, scores and the table")
    scores = made.add_argument_group("scores, each where its files are named")
    scores.add_argument("--open-clip", nargs=2, metavar=("NAME", "FILE"), help="CLIP-I, -T, -P, -S by this model")
    scores.add_argument("--clip-vision", type=Path, metavar="FILE", help="the same by ComfyUI's image encoder, with")
    scores.add_argument("--clip-text", type=Path, metavar="FILE", help="its text encoder; one file may hold both")
    scores.add_argument("--dino", type=Path, metavar=PLACE, help="DINOv2: ComfyUI's file, or transformers' folder")
    scores.add_argument("--faces", type=Path, metavar="FOLDER", help="insightface's models: cosines of faces")
    scores.add_argument("--fid", action="store_true", help="with torchmetrics, from its weights in torch's hub folder")
    scores.add_argument("--lpips", action="store_true", help="the same, between images of one identity")
    scores.add_argument("--comfyui", default=str(ROOT.parent.parent), help="ComfyUI's folder, to read its files")
    scores.add_argument("--cpu", action="store_true", help="score without a graphics card")
    judge = made.add_argument_group("DreamBench++'s judge; its key, if it needs one, is read from JUDGE_API_KEY")
    judge.add_argument("--judge", metavar="URL", help="an address that answers as OpenAI's does, up to /v1")
    judge.add_argument("--judge-model", default="gpt-4o", metavar="NAME", help="the model to ask for")
    judge.add_argument("--judge-runs", type=int, default=3, help="how often each question is asked")
    judge.add_argument("--judge-prompts", type=Path, metavar="FOLDER", help="DreamBench++'s own questions")
