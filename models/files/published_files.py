"""The files that the pack is used with: where they are published, and where ComfyUI looks for them. No torch."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from ..families import FAMILIES
from .encoder_files import VIT_H_FILE, VIT_H_URL

HUGGING_FACE = "https://huggingface.co"
MAIN = "/resolve/main/"


@dataclass(frozen=True)
class PublishedFile:
    """A published file: its name in the folder `folder` of ComfyUI's models folder, and where to get it.

    size: in bytes, 0 where it is not known. sha256: "" where it is not known. repository: owner and name at Hugging
    Face. path: the file's in it.
    """

    name: str
    folder: str
    url: str
    size: int = 0
    sha256: str = ""

    @property
    def repository(self) -> str:
        return self.url.removeprefix(f"{HUGGING_FACE}/").split(MAIN)[0]

    @property
    def path(self) -> str:
        return self.url.split(MAIN)[1]


def sha256_of(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


ADAPTERS = {
    family.name: PublishedFile(family.published_file, "ipadapter", family.url, sha256=family.sha256)
    for family in FAMILIES
}
IMAGE_ENCODER = PublishedFile(
    VIT_H_FILE,
    "clip_vision",
    VIT_H_URL,
    size=2_528_373_448,
    sha256="6ca9667da1ca9e0b0f75e46bb030f7e011f44f86cbfb8d5a36590fcd7507b030",
)
CLIP_L_FILE = PublishedFile(
    "clip_l.safetensors",
    "text_encoders",
    f"{HUGGING_FACE}/comfyanonymous/flux_text_encoders/resolve/main/clip_l.safetensors",
    size=246_144_152,
    sha256="660c6f5b1abae9dc498ac2d21e1347d2abdb0cf6c0c0c8576cd796491d9a6cdd",
)
