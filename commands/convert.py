"""Convert an adapter file to half precision: half the size, the same adapter.

    python custom_nodes/ipadapter-instruct/cli.py convert models/ipadapter/ip-adapter-instruct-sdxl.bin

The new file is a .safetensors beside the old one, which stays as it is.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ..models.messages import PRECISIONS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, help="the adapter, .bin or .safetensors")
    parser.add_argument("--output", type=Path, help="the file to write; without, NAME-fp16.safetensors beside FILE")
    parser.add_argument("--dtype", choices=PRECISIONS, default="fp16", help="fp16 is the more exact one")
    parser.add_argument("--overwrite", action="store_true", help="replace the file to write if it is there")


def run(arguments: argparse.Namespace) -> int:
    """Return 0. Raises ValueError or OSError for a file that cannot be converted."""
    from ..models.adapter.convert import convert, default_name

    source = arguments.file
    target = arguments.output or source.with_name(default_name(source, arguments.dtype))
    print(convert(source, target, arguments.dtype, arguments.overwrite))
    return 0
