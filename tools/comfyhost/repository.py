"""git, and copies of the files that it has of the working tree, or would add."""

import os
import shutil
import subprocess
from pathlib import Path

from comfyhost.install import clean_environment
from comfyhost.places import REPO_ROOT, ToolError

AUTHOR = ("-c", "user.name=tests", "-c", "user.email=tests@localhost", "-c", "commit.gpgsign=false")


def copy_working_tree(folder: Path) -> None:
    for name in git(REPO_ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0"):
        source, target = REPO_ROOT / name, folder / name
        if source.is_file():  # a file just removed is still listed
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)


def git(folder: Path, *words: str) -> str:
    """Run git and return what it printed. Raises ToolError when it is not there, or failed."""
    if not shutil.which("git"):
        raise ToolError("git is needed, which was not found on the PATH. Install it (apt install git).")
    command = ["git", "-C", str(folder), *words]
    done = subprocess.run(command, env=git_alone(), capture_output=True, text=True, timeout=100)
    if done.returncode:
        raise ToolError(f"git {' '.join(words)} failed in {folder}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def git_alone() -> dict[str, str]:
    """The environment without what a user, or a hook that runs this, tells git."""
    plain = {name: value for name, value in clean_environment().items() if not name.startswith("GIT_")}
    # A checkout may belong to another user, in a container for example; reading its list of files does no harm.
    trust = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*"}
    return {**plain, **trust, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "GIT_TERMINAL_PROMPT": "0"}
