"""Convert an IPAdapter-Instruct file to half precision: half the size, the same adapter.

    python custom_nodes/ipadapter-instruct/convert.py models/ipadapter/ip-adapter-instruct-sdxl.bin

Run it with the python that runs ComfyUI, which has what it needs. ComfyUI itself never imports this file.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import types
from pathlib import Path

PACK = "ipadapter_instruct_command"


def conversion() -> types.ModuleType:
    """The pack's models/adapter/convert.py, as part of a package of a fixed name.

    The pack's folder may have any name, and some pythons (ComfyUI's portable one for Windows) don't put it on sys.path.
    """
    pack = types.ModuleType(PACK)
    pack.__path__ = [str(Path(__file__).resolve().parent)]
    sys.modules[PACK] = pack
    return importlib.import_module(f"{PACK}.models.adapter.convert")


def main(arguments: list[str] | None = None) -> int:
    """Return 0, or 1 with a message on stderr when the file cannot be converted."""
    wanted = parser().parse_args(arguments)
    module = conversion()
    source = Path(wanted.file)
    target = Path(wanted.output) if wanted.output else source.with_name(module.default_name(source, wanted.dtype))
    try:
        print(module.convert(source, target, wanted.dtype, wanted.overwrite))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    made.add_argument("file", help="the adapter, .bin or .safetensors")
    made.add_argument("--output", help="the file to write (default: beside FILE, as NAME-fp16.safetensors)")
    made.add_argument("--dtype", choices=["fp16", "bf16"], default="fp16", help="fp16 is the more exact one")
    made.add_argument("--overwrite", action="store_true", help="replace the file to write if it is there")
    return made


if __name__ == "__main__":
    sys.exit(main())
