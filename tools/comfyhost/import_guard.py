"""Check every use of comfy.* in the pack against the ComfyUI in use: that the name exists and the call fits it.

    PYTHONPATH=tools python -m comfyhost.import_guard

comfy-import-guard reads ComfyUI from a git commit, and packs from a custom_nodes folder. Here the commit holds the
ComfyUI that is installed, so that no network is needed.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from comfyhost.install import exit_code
from comfyhost.places import REPO_ROOT, ToolError, host
from comfyhost.repository import AUTHOR, git

PACK = ("__init__.py", "models", "nodes")


def main() -> None:
    """Run comfy-import-guard, which prints what it found. Raises ToolError when something would break."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        commit_comfyui(place / "ComfyUI")
        pack = place / "custom_nodes" / "ipadapter-instruct"
        pack.mkdir(parents=True)
        for name in PACK:
            copy = shutil.copytree if (REPO_ROOT / name).is_dir() else shutil.copy
            copy(REPO_ROOT / name, pack / name)
        options = ["--cache-dir", place, "--comfy-dir", place, "--target", "HEAD", "--offline", "--quiet"]
        if subprocess.run([sys.executable, "-m", "comfy_import_guard.cli", "check", *options]).returncode:
            raise ToolError("ComfyUI lacks what is named above, or takes it otherwise. Ask it for the feature first.")


def commit_comfyui(folder: Path) -> None:
    """Make a git repository whose only commit holds the Python files of the ComfyUI in use."""
    folder.mkdir()
    git(folder, "init", "--quiet")
    tree = ("--git-dir", str(folder / ".git"), "--work-tree", str(host().comfyui))
    git(host().comfyui, *tree, "add", "--force", "comfy", "*.py")
    git(host().comfyui, *tree, *AUTHOR, "commit", "--quiet", "--message", "The ComfyUI in use")


if __name__ == "__main__":
    sys.exit(exit_code(main))
