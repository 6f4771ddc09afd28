"""The working tree as a git repository of its own, which git finds at the address the pack is published under."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from comfyhost.install import clean_environment
from comfyhost.places import REPO_ROOT, ToolError

AUTHOR = ("-c", "user.name=tests", "-c", "user.email=tests@localhost", "-c", "commit.gpgsign=false")


class Repository:
    """A clone's origin: the files of the working tree, uncommitted ones too, in one commit.

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


def copy_working_tree(folder: Path) -> None:
    """Copy the files that git has, or would add."""
    for name in git(REPO_ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0"):
        source, target = REPO_ROOT / name, folder / name
        if source.is_file():  # a file just removed is still listed
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)


def git(folder: Path, *words: str) -> str:
    """Run git and return what it printed. Raises ToolError when it is not there, or failed."""
    if not shutil.which("git"):
        raise ToolError("git is needed, which was not found on the PATH. Install it (apt install git).")
    done = subprocess.run(
        ["git", "-C", str(folder), *words], env=git_alone(), capture_output=True, text=True, timeout=100
    )
    if done.returncode:
        raise ToolError(f"git {' '.join(words)} failed in {folder}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def git_alone() -> dict[str, str]:
    """The environment without what a user, or a hook that runs this, tells git."""
    plain = {name: value for name, value in clean_environment().items() if not name.startswith("GIT_")}
    # A checkout may belong to another user, in a container for example; reading its list of files does no harm.
    trust = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*"}
    return {**plain, **trust, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "GIT_TERMINAL_PROMPT": "0"}
