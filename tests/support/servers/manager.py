"""ComfyUI-Manager and comfy-cli, run for real on copies of ComfyUI that may be changed, and what they install.

Both are installed into an environment of their own. No network is needed but for the package registry, once.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from comfyhost.environments import Environment
from comfyhost.install import run, set_up
from comfyhost.places import REPO_ROOT, TOOLS, Host, ToolError
from comfyhost.repository import AUTHOR, copy_working_tree, git, git_alone
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
        places = {"HOME": str(self.folder / "home"), "COMFYUI_PATH": str(self.folder)}
        path = f"{self.host.python.parent}{os.pathsep}{os.environ['PATH']}"
        plain = {"PATH": path, "NO_COLOR": "1", "COLUMNS": "500"}  # lines are cut there
        return {**git_alone(), **places, **plain, **self.environment}

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


class Repository:
    """The pack as a clone's origin: the files of the working tree, uncommitted ones too, in one commit.

    `folder` is where its files can be changed, and committed anew. `environment` makes git look there
    when it is given `address`, so that nothing has to be published to be installed.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.address = re.search(r'Repository = "(.+)"', (REPO_ROOT / "pyproject.toml").read_text(encoding="utf-8"))[1]
        self.environment = {
            **git_alone(),
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": f"url.{folder.as_uri()}.insteadOf",
            "GIT_CONFIG_VALUE_0": self.address,
        }
        copy_working_tree(folder)
        git(folder, "init", "--quiet", "--initial-branch", "main")
        self.commit()

    def commit(self) -> str:
        """Commit everything as it is now, and return the commit's hash."""
        git(self.folder, "add", "--all")
        git(self.folder, *AUTHOR, "commit", "--quiet", "--message", "as it is")
        return git(self.folder, "rev-parse", "HEAD").strip()

    def set_version(self, version: str) -> str:
        """Commit another version number, and return the commit's hash."""
        path = self.folder / "pyproject.toml"
        text, count = re.subn(r'(?m)^version = ".+"$', f'version = "{version}"', path.read_text(encoding="utf-8"))
        if count != 1:
            raise ToolError(f'One line version = "..." was expected in pyproject.toml, {count} were found.')
        path.write_text(text, encoding="utf-8")
        return self.commit()
