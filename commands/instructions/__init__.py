"""Show how a text encoder tells the wordings of tasks apart: which lie with another task, and a map of them all.

    python custom_nodes/ipadapter-instruct/cli.py instructions --text-encoder models/text_encoders/clip_l.safetensors \\
        --wordings pairs --plot map.png

Those of the pack are shown, and your own beside them. A wording that lies with another task teaches the wrong thing.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from .. import ROOT

MAP_METHODS = ("pca", "tsne")


def run(wanted: argparse.Namespace) -> int:
    """Return 0. Raises ValueError or OSError for files that are not what is needed."""
    from .report import report

    return report(wanted)


def add_arguments(made: argparse.ArgumentParser) -> None:
    made.add_argument(
        "--text-encoder", type=Path, required=True, metavar="FILE", help="CLIP-L, or a checkpoint that holds it"
    )
    made.add_argument(
        "--wordings",
        type=Path,
        action="append",
        default=[],
        metavar="FILE or FOLDER",
        help='your own, repeatable: a folder with pairs.jsonl, such lines, or JSON {"TASK": ["WORDING"]}',
    )
    made.add_argument("--plot", type=Path, metavar="FILE", help="draw the map into this picture, .png")
    made.add_argument("--method", choices=MAP_METHODS, default=MAP_METHODS[0], help="tsne needs scikit-learn")
    made.add_argument("--comfyui", default=str(ROOT.parent.parent), help="ComfyUI's folder")
    made.add_argument("--cpu", action="store_true", help="without a graphics card")
