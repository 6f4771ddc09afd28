"""Look for known weaknesses of the packages that requirements.txt brings: pip-audit over what pip resolves it to.

pip-audit has a virtual environment of its own, in the cache folder. It asks https://pypi.org/pypi/PACKAGE/VERSION/json .
torch and what comes with it are ComfyUI's; the newest that fits is audited in their place.
"""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

from comfyhost.install import clean_environment, say
from comfyhost.places import REPO_ROOT, cache_folder, venv_python

PIP_AUDIT = "pip-audit==2.10.1"
UNREACHABLE = 2


def main() -> int:
    """pip-audit's answer: 0 for nothing known, 1 for weaknesses; UNREACHABLE where there is nobody to ask."""
    folder = cache_folder() / "venv-audit"
    python = venv_python(folder)
    if not installed(python):
        say(f"Installing {PIP_AUDIT} into {folder}")
        venv.create(folder, with_pip=True, clear=True)
        run([python, "-m", "pip", "install", "--quiet", PIP_AUDIT], check=True)
    command = [python, "-m", "pip_audit", "--vulnerability-service", "pypi", "--progress-spinner", "off"]
    asked = run([*command, "--requirement", REPO_ROOT / "requirements.txt", *sys.argv[1:]], stderr=subprocess.PIPE)
    print(asked.stderr, file=sys.stderr, end="")
    if "ServiceError" in asked.stderr or "ConnectionError" in asked.stderr:
        say("error: PyPI's vulnerability service cannot be reached from here, so nothing was audited.")
        return UNREACHABLE
    return asked.returncode


def installed(python: Path) -> bool:
    return python.exists() and run([python, "-c", "import pip_audit"], stderr=subprocess.DEVNULL).returncode == 0


def run(command: list, **options) -> subprocess.CompletedProcess:
    return subprocess.run([str(word) for word in command], text=True, env=clean_environment(), **options)


if __name__ == "__main__":
    sys.exit(main())
