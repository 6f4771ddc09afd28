"""Write the .json files in workflows/ from their recipes."""

import json
import sys
from collections.abc import Mapping

from comfyhost.client import Client
from comfyhost.install import exit_code, say
from comfyhost.places import REPO_ROOT
from comfyhost.server import ComfyServer

from shipped.parts import InstructWorkflow
from shipped.recipes import RECIPES

FOLDER = REPO_ROOT / "workflows"


def main() -> None:
    """Write every recipe's file, by what a server says of its nodes. Raises ToolError when it does not start."""
    with ComfyServer() as server, Client(server.url) as client:
        object_info = client.object_info()
    for name in RECIPES:
        (FOLDER / f"{name}.json").write_text(file_text(name, object_info), encoding="utf-8")
    say(f"Wrote {len(RECIPES)} workflows to {FOLDER}. Pictures: python -m shipped.pictures")


def file_text(name: str, object_info: Mapping[str, dict]) -> str:
    """A workflow file's content."""
    workflow = InstructWorkflow(name, object_info)
    RECIPES[name](workflow)
    return json.dumps(workflow.saved(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.exit(exit_code(main))
