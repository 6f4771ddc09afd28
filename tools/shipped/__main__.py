"""Write the .json files in workflows/ and subgraphs/ from their recipes.

PYTHONPATH=tools python -m shipped [NAME ...]    those of newer nodes by name, with COMFYUI_PATH
"""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from comfyhost.install import exit_code, say
from comfyhost.places import REPO_ROOT
from comfyhost.server import ComfyServer
from ipadapter_instruct.commands.servers.client import Client

from shipped import blueprints
from shipped.parts import InstructWorkflow
from shipped.recipes import EVERYWHERE, RECIPES


def main(names: Sequence[str]) -> None:
    """Write these files, by what a server says of its nodes. Raises ToolError when it does not start."""
    with ComfyServer() as server, Client(server.url) as client:
        object_info = client.object_info()
    for name in names:
        path_of(name).write_text(file_text(name, object_info), encoding="utf-8")
    say(f"Wrote {len(names)} files. Pictures: python -m shipped.pictures")


def path_of(name: str) -> Path:
    """Return where the file of a workflow or a blueprint lies."""
    return REPO_ROOT / ("subgraphs" if name in blueprints.TASKS else "workflows") / f"{name}.json"


def file_text(name: str, object_info: Mapping[str, dict]) -> str:
    """Return the that file's content."""
    if name in blueprints.TASKS:
        content = blueprints.blueprint(name, object_info)
    else:
        workflow = InstructWorkflow(name, object_info)
        RECIPES[name](workflow)
        content = workflow.saved()
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.exit(exit_code(lambda: main(sys.argv[1:] or [*EVERYWHERE, *blueprints.TASKS])))
