"""One reference picture, six instructions, one sheet: `make demo`.

    PYTHONPATH=tools python -m drawn_world.demo [--output PICTURE.png]
    PYTHONPATH=tools python -m drawn_world.demo --serve [--port 8188]

In the drawn world, whose models are rebuilt from files in the repository; once the published files of SD1.5 are in the
models folder in use, with them and a photograph. --serve opens the same ComfyUI for a browser.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from comfyhost import demo
from comfyhost.install import say
from comfyhost.places import REPO_ROOT, ToolError, cache_folder, host
from comfyhost.server import ComfyServer
from comfyhost.standins import published_files
from ipadapter_instruct.commands.servers.client import Client

FAMILY = "sd15"
PUBLISHED = REPO_ROOT / "workflows" / "five_instructions.json"
OUTPUT = REPO_ROOT / "output" / "demo.png"


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the sheet; 1 and a sentence on what to do when anything goes wrong."""
    options = parse(arguments)
    if options.serve:
        return demo.reporting(lambda: serve(options.port))
    if published_files(FAMILY):
        return demo.main(["--workflow", str(PUBLISHED), "--output", str(options.output)])
    return demo.reporting(lambda: in_the_drawn_world(options.output.absolute()))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="drawn_world.demo", description=__doc__.split("\n")[0])
    parser.add_argument("--output", type=Path, default=OUTPUT, help="where the picture goes (output/demo.png)")
    parser.add_argument("--serve", action="store_true", help="ComfyUI with the drawn world in the foreground")
    parser.add_argument("--port", type=int, default=8188)
    return parser.parse_args(arguments)


def in_the_drawn_world(output: Path) -> None:
    begin = time.monotonic()
    say(f"Demo: one picture, six instructions, in a world of drawings. Picture: {output}")
    say(f"With the published files of SD1.5 in {host().models} it takes those (cli.py download fetches them).")
    demo.perform(stage(), {}, output, begin)


def stage() -> demo.Stage:
    from drawn_world.files import JOINT, adapter_name, comfyui_of_the_world  # imports torch and ComfyUI
    from drawn_world.sheet import workflow_of, write_reference

    return demo.Stage(comfyui_of_the_world(), lambda info: workflow_of(info, adapter_name(JOINT)), write_reference)


def serve(port: int) -> None:
    """ComfyUI with the drawn world until Ctrl-C; the workflow is in the page's list of workflows."""
    from drawn_world.sheet import REFERENCE_FILE

    on, base = stage(), cache_folder() / "serve-drawn-world"
    with ComfyServer(on.comfyui, base=base, port=port, quiet=False) as server:
        on.write_picture(base / "input" / REFERENCE_FILE)
        with Client(server.url) as client:
            workflow = on.workflow(client.object_info())
        saved = base / "user" / "default" / "workflows" / "drawn_world.json"
        saved.parent.mkdir(parents=True, exist_ok=True)
        saved.write_text(json.dumps(workflow), encoding="utf-8")
        say(f"\nComfyUI with the pack: {server.url}\nOpen drawn_world in its list of workflows. Ctrl-C ends it.")
        if server.process.wait():
            raise ToolError("The server ended; its last lines above say why.")


if __name__ == "__main__":
    sys.exit(main())
