"""ComfyUI-Manager and comfy-cli, run for real on copies of ComfyUI that may be changed.

Both are installed into an environment of their own. No network is needed but for the package registry, once.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from comfyhost.environments import Environment
from comfyhost.install import clean_environment, set_up
from comfyhost.places import TOOLS, Host, ToolError
from comfyhost.server import ComfyServer

MANAGER = Environment("manager", TOOLS / "requirements-manager.txt")
CONFIG = (
    "[default]\nnetwork_mode = offline\nuse_uv = False\nfile_logging = False\n"  # uv does not see ComfyUI's packages
)
MANAGER_COMMAND = """
import os
from cm_cli.__main__ import main
from comfyui_manager.common import cnr_utils
cnr_utils.base_url = os.environ.get("REGISTRY", cnr_utils.base_url)
main()
"""
# What main.py of later versions does for --enable-manager; 0.3.75 has no such option.
SWITCH_ON = """
import os
from comfy.cli_args import args
args.enable_manager, args.enable_manager_legacy_ui = True, False
import comfyui_manager
"""
PRESTARTUP = f"""{SWITCH_ON}
comfyui_manager.prestartup()
"""
START = f"""{SWITCH_ON}
from comfyui_manager.common import cnr_utils
cnr_utils.base_url = os.environ.get("REGISTRY", cnr_utils.base_url)
comfyui_manager.start()
NODE_CLASS_MAPPINGS = {{}}
"""
STARTER = "starts-manager"
ABSENT = {"custom_nodes", "input", "models", "output", "temp", "user"}  # from a clean copy
LOOK_AT_TORCH = """
import hashlib, importlib.metadata, importlib.util, os
home = os.path.dirname(importlib.util.find_spec("torch").origin)
digest = hashlib.sha256()
for folder, _, names in sorted(os.walk(home)):
    for path in (os.path.join(folder, name) for name in sorted(names) if not folder.endswith("__pycache__")):
        digest.update(f"{path} {os.stat(path).st_size} {os.stat(path).st_mtime_ns}".encode())
print(importlib.metadata.version("torch"), home, digest.hexdigest())
"""


def set_up_manager() -> Host:
    """The ComfyUI in the cache folder with the python that has Manager and comfy-cli; installs what is missing."""
    found = set_up()
    if found.users_own:
        raise ToolError(
            "Manager is tried on the ComfyUI in the cache folder only, so that nothing is installed into a user's "
            "own; COMFYUI_PATH is set. Unset it."
        )
    return Host(found.comfyui, MANAGER.set_up(found.python), found.models, users_own=False)


def run(command: list, environment: dict[str, str], folder: Path | None = None) -> str:
    """Run a command and return what it printed. Raises ToolError with it when the command failed."""
    words = [str(word) for word in command]
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    done = subprocess.run(words, cwd=folder, env=environment, text=True, timeout=300, **streams)
    if done.returncode:
        raise ToolError(f"{' '.join(words[:4])} ... failed, saying:\n{done.stdout[-3000:]}")
    return done.stdout


@dataclass(frozen=True)
class ManagedComfyUI:
    """A copy of ComfyUI of one's own, with an empty custom_nodes, and Manager to fill it.

    `environment` is added to the commands' own. Their home folder is a new one too.
    """

    folder: Path
    host: Host
    environment: dict[str, str] = field(default_factory=dict)

    @classmethod
    def make(cls, folder: Path, host: Host, environment: dict[str, str] | None = None) -> ManagedComfyUI:
        shutil.copytree(host.comfyui, folder, ignore=lambda of, _: ABSENT if Path(of) == host.comfyui else ())
        for name in ("custom_nodes", "models", "home", "user/__manager"):
            (folder / name).mkdir(parents=True)
        (folder / "user" / "__manager" / "config.ini").write_text(CONFIG, encoding="utf-8")
        return cls(folder, Host(folder, host.python, folder / "models", users_own=False), environment or {})

    @property
    def custom_nodes(self) -> Path:
        return self.folder / "custom_nodes"

    def variables(self) -> dict[str, str]:
        """The environment variables for a command."""
        plain = {name: value for name, value in clean_environment().items() if not name.startswith("GIT_")}
        own = {
            "HOME": str(self.folder / "home"),
            "COMFYUI_PATH": str(self.folder),
            "PATH": f"{self.host.python.parent}{os.pathsep}{plain['PATH']}",
            "NO_COLOR": "1",
            "COLUMNS": "500",  # lines are cut there
        }
        return {**plain, **own, **self.environment}

    def manager(self, *words: str) -> str:
        """Run Manager's command line. Raises ToolError when it says that something went wrong: it rarely exits so."""
        said = run([self.host.python, "-c", MANAGER_COMMAND, *words], self.variables())
        if "ERROR" in said or "FAIL" in said:
            raise ToolError(f"cm-cli {' '.join(words)} failed, saying:\n{said[-3000:]}")
        return said

    def packs(self) -> list[str]:
        """The folders in custom_nodes that ComfyUI would import."""
        names = (path.name for path in self.custom_nodes.iterdir() if path.is_dir())
        return sorted(name for name in names if name not in (".disabled", "__pycache__", STARTER))

    def packages(self) -> dict[str, str]:
        """Every package that this ComfyUI's python sees, with its version.

        Without setuptools: a new environment brings an older one than torch asks for, which any pip run renews.
        """
        listed = run([self.host.python, "-m", "pip", "list", "--format", "json"], self.variables())
        rows = json.loads(next(line for line in listed.splitlines() if line.startswith("[")))
        return {row["name"]: row["version"] for row in rows if row["name"] != "setuptools"}

    def torch(self) -> str:
        """torch's version and place, and a digest that changes when one of its files is written."""
        return run([self.host.python, "-c", LOOK_AT_TORCH], self.variables())

    def server(self) -> ComfyServer:
        """A server that has in its custom_nodes what was installed there, and nothing else."""
        return ComfyServer(self.host, base=self.folder, environment=self.variables(), pack=None)

    def start_manager_with_server(self) -> None:
        """Start Manager with the server from now on, as later versions of ComfyUI do with --enable-manager."""
        starter = self.custom_nodes / STARTER
        starter.mkdir()
        (starter / "prestartup_script.py").write_text(PRESTARTUP, encoding="utf-8")
        (starter / "__init__.py").write_text(START, encoding="utf-8")
