"""Make pairs to train on, of your own pictures, by workflows on ComfyUI servers.

    python custom_nodes/ipadapter-instruct/cli.py pairs --task style --pictures photos --output pairs \\
        --server http://127.0.0.1:8188

photos: a folder of pictures, with a.txt as caption beside a.png (and a.mask.png, a.pose.png, a.object.txt where a task
needs them); or a file of lines such as
    {"picture": "a.png", "caption": "a helmet on a table", "mask": "a-mask.png", "object": "helmet"}

pairs/style is then a folder that cli.py train takes, and pairs one for all tasks that were made there. Run again after
it was stopped, or with more pictures, it makes only what is missing. Nothing but the servers that are named is called.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ...models.guidance.tasks import KNOWN
from .. import ROOT


def run(wanted: argparse.Namespace) -> int:
    """Return 0, or 1 when pairs could not be made. Raises ValueError or OSError when nothing can be made."""
    from .command import make_pairs

    return make_pairs(wanted)


def add_arguments(made: argparse.ArgumentParser) -> None:
    made.add_argument("--task", required=True, metavar="TASK", help=f"one of {', '.join(KNOWN)}, or a name of your own")
    made.add_argument("--pictures", type=Path, required=True, metavar="FOLDER or FILE", help="what pairs are made of")
    made.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="for the pairs of all tasks")
    made.add_argument("--server", action="append", default=[], metavar="URL", help="a running ComfyUI; repeatable")
    how = made.add_argument_group("how they are made")
    how.add_argument("--workflow", type=Path, metavar="FILE", help="your own in place of the task's shipped one")
    how.add_argument(
        "--instruction", action="append", default=[], metavar="TEXT", help="a wording of your own task; repeatable"
    )
    how.add_argument("--prompts", type=Path, metavar="FILE", help="a line for each new picture, in place of captions")
    how.add_argument("--per-picture", type=int, default=1, help="pairs of each reference")
    how.add_argument("--held-out", type=int, default=0, help="pairs to evaluate by, on which nothing is trained")
    how.add_argument("--seed", type=int, default=0, help="another one draws other pairs")
    how.add_argument("--shards", type=int, default=0, help="pairs in a webdataset shard; 0 writes none")
    by = made.add_argument_group("pairs to leave out, by a CLIP; their pictures stay")
    by.add_argument("--open-clip", nargs=2, metavar=("NAME", "FILE"), help="score pairs by this model of open_clip's")
    by.add_argument("--clip-vision", type=Path, metavar="FILE", help="by ComfyUI's image encoder, with")
    by.add_argument("--clip-text", type=Path, metavar="FILE", help="its text encoder; one file may hold both")
    by.add_argument("--most-alike", type=float, help="leave out where CLIP-I, of target and reference, is more")
    by.add_argument("--least-alike", type=float, help="where it is less")
    by.add_argument("--least-prompt", type=float, help="where CLIP-P, of target and caption, is less")
    by.add_argument("--comfyui", default=str(ROOT.parent.parent), help="ComfyUI's folder, to read its files")
    by.add_argument("--cpu", action="store_true", help="score without a graphics card")
