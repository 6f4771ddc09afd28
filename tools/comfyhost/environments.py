"""Virtual environments of single tools, beside the one that ComfyUI runs in."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from comfyhost.install import HOST_REQUIREMENTS, Pip, clean_environment, fingerprint, make_venv, only_one, runs, say
from comfyhost.places import cache_folder, venv_python


@dataclass(frozen=True)
class Environment:
    """An environment in the cache folder with what a requirements file names.

    It may also see the packages of another python: a second torch would take another 5.5 GB.
    """

    name: str
    requirements: Path

    @property
    def folder(self) -> Path:
        return cache_folder() / f"venv-{self.name}-{sys.version_info.major}.{sys.version_info.minor}"

    @property
    def python(self) -> Path:
        return venv_python(self.folder)

    @property
    def stamp(self) -> Path:
        return self.folder / "installed.stamp"

    def fingerprint(self) -> str:
        """Return a digest that changes with every requirement, ComfyUI's included."""
        return hashlib.sha256(self.requirements.read_bytes() + fingerprint().encode()).hexdigest()

    def is_current(self) -> bool:
        """True when an earlier run installed just these requirements beside just this ComfyUI."""
        is_stamped = self.stamp.is_file() and self.stamp.read_text(encoding="utf-8") == self.fingerprint()
        return is_stamped and runs(self.python)

    def set_up(self, beside: Path | None = None) -> Path:
        """Install what is missing, beside that python's packages, and return the environment's python."""
        with only_one(cache_folder() / f"{self.name}.lock"):
            if not self.is_current():
                say(f"Setting up {self.folder} (details in {self.name}.log)")
                pip = Pip(self.python, cache_folder() / f"{self.name}.log")
                make_venv(self.folder, pip)
                if beside:
                    link = site_packages(self.python) / "comfyui.pth"
                    link.write_text(f"{site_packages(beside)}\n", encoding="utf-8")
                pip("install", "-r", self.requirements, "-c", HOST_REQUIREMENTS)
                self.stamp.write_text(self.fingerprint(), encoding="utf-8")
        return self.python


def site_packages(python: Path) -> Path:
    """Return the folder in which that python's own packages lie."""
    asked = [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    return Path(
        subprocess.run(asked, env=clean_environment(), capture_output=True, text=True, check=True).stdout.strip()
    )
