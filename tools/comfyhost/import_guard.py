"""Check every use of comfy.* in the pack against the ComfyUI in use: that the name exists and the call fits it.

    PYTHONPATH=tools python -m comfyhost.import_guard

comfy-import-guard reads ComfyUI from a git commit, and packs from a custom_nodes folder. Here the commit holds the
ComfyUI that is installed, so that no network is needed.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from comfyhost.install import exit_code
from comfyhost.places import REPO_ROOT, ToolError, host
from comfyhost.repository import AUTHOR, git


def main() -> None:
    """Run comfy-import-guard, which prints what it found. Raises ToolError when something would break."""
    with tempfile.TemporaryDirectory() as folder:
        place, comfyui = Path(folder), host().comfyui
        git(place, "init", "--quiet", "ComfyUI")
        tree = ("--git-dir", str(place / "ComfyUI" / ".git"), "--work-tree", str(comfyui))
        git(comfyui, *tree, "add", "--force", "comfy", "*.py")
        git(comfyui, *tree, *AUTHOR, "commit", "--quiet", "--message", "The ComfyUI in use")
        pack = place / "custom_nodes" / "ipadapter-instruct"
        pack.mkdir(parents=True)
        for name in ("__init__.py", "models", "nodes"):
            copy = shutil.copytree if (REPO_ROOT / name).is_dir() else shutil.copy
            copy(REPO_ROOT / name, pack / name)
        options = ["--cache-dir", place, "--comfy-dir", place, "--target", "HEAD", "--offline", "--quiet"]
        if subprocess.run([sys.executable, "-m", "comfy_import_guard.cli", "check", *options]).returncode:
            raise ToolError("ComfyUI lacks what is named above, or takes it otherwise. Ask it for the feature first.")


if __name__ == "__main__":
    sys.exit(exit_code(main))
