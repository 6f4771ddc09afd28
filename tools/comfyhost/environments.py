"""Virtual environments of single tools, beside the one that ComfyUI runs in."""

import hashlib
import sys
from pathlib import Path

from comfyhost.install import HOST_REQUIREMENTS, Pip, fingerprint, make_venv, only_one, run, runs, say
from comfyhost.places import cache_folder


class Environment:
    """An environment in the cache folder with what a requirements file names."""

    def __init__(self, name: str, requirements: Path):
        self.name, self.requirements = name, requirements
        self.folder = cache_folder() / f"venv-{name}-{sys.version_info.major}.{sys.version_info.minor}"
        self.python, self.stamp = self.folder / "bin/python", self.folder / "installed.stamp"

    def fingerprint(self) -> str:
        """Return a digest that changes with every requirement, ComfyUI's included."""
        return hashlib.sha256(self.requirements.read_bytes() + fingerprint().encode()).hexdigest()

    def is_current(self) -> bool:
        """True when an earlier run installed just these requirements beside just this ComfyUI."""
        is_stamped = self.stamp.is_file() and self.stamp.read_text(encoding="utf-8") == self.fingerprint()
        return is_stamped and runs(self.python, "-c", "")

    def set_up(self, beside: Path | None = None) -> Path:
        """Install what is missing; return the environment's python, which also sees that other python's packages."""
        with only_one(cache_folder() / f"{self.name}.lock"):
            if not self.is_current():
                say(f"Setting up {self.folder} (details in {self.name}.log)")
                pip = Pip(self.python, cache_folder() / f"{self.name}.log")
                make_venv(self.folder, pip)
                if beside:
                    (site_packages(self.python) / "comfyui.pth").write_text(f"{site_packages(beside)}\n", "utf-8")
                pip("install", "-r", self.requirements, "-c", HOST_REQUIREMENTS)
                self.stamp.write_text(self.fingerprint(), encoding="utf-8")
        return self.python


def site_packages(python: Path) -> Path:
    said = run([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"])
    return Path(said.splitlines()[-1])
