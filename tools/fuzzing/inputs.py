"""Inputs drawn from a seed and an index: the same ones always."""

from __future__ import annotations

import os
import random
import shutil
from dataclasses import dataclass
from pathlib import Path

from fuzzing import odd_files, seeds, spoil_archives, spoil_bytes, spoil_headers, spoil_pickles, spoil_tensors

CONTAINERS = ("safetensors", "zip", "legacy")
SUFFIXES = {"safetensors": ".safetensors", "zip": ".bin", "legacy": ".bin"}
ODD_SHARE = 0.05
VALID = "valid"
# What is read, in which share of the inputs.
READERS = {"adapter": 80, "embeds": 7, "faces": 7, "tower": 6}
FILES = {
    "adapter": tuple(seeds.ADAPTERS),
    "embeds": tuple(seeds.EMBEDS),
    "faces": tuple(seeds.FACES),
    "tower": tuple(seeds.TOWERS),
}


@dataclass(frozen=True)
class Input:
    """An input. reader: what is to read it. file: the valid file it was made of. spoilt: in which way.

    content: its bytes; None where `spoilt` names what stands in place of an ordinary file.
    """

    reader: str
    file: str
    spoilt: str
    name: str
    content: bytes | None

    def write(self, folder: Path) -> Path:
        path = folder / self.name
        if self.content is None:
            odd_files.PLACES[self.spoilt](path)
        else:
            path.write_bytes(self.content)
        return path

    def __str__(self) -> str:
        return f"{self.reader}, {self.file} as {self.name}, {self.spoilt}"


def remove(path: Path) -> None:
    """Remove whatever `write` has put there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    elif os.path.lexists(path):
        path.unlink()


def make(seed: int, index: int, with_content: bool = True) -> Input:
    """Make an input. with_content: False for a quick look at what the input is."""
    rng = random.Random(f"{seed}:{index}")
    reader = rng.choices(list(READERS), list(READERS.values()))[0]
    file = rng.choice(FILES[reader])
    container = rng.choices(CONTAINERS, (5, 3, 2))[0] if reader in ("adapter", "tower") else "safetensors"
    suffix = rng.choice((SUFFIXES[container],) * 9 + (".safetensors", ".bin", ".pt"))
    name = rng.choice(("adapter", "adapter", "ip-adapter-faceid-plusv2_x")) + suffix
    if rng.random() < ODD_SHARE:
        spoilt = rng.choice((*odd_files.FORMATS, *odd_files.PLACES))
        content = odd_files.content(rng, spoilt) if with_content and spoilt in odd_files.FORMATS else None
        return Input(reader, file, spoilt, name, content)
    spoilt = rng.choice(_ways(container))
    return Input(reader, file, spoilt, name, _content(rng, file, container, spoilt) if with_content else None)


def _ways(container: str) -> tuple[str, ...]:
    common = (VALID, *spoil_bytes.SPOILT, *spoil_tensors.SPOILT)
    if container == "safetensors":
        return (*common, *spoil_headers.KINDS)
    archives = spoil_archives.SPOILT if container == "zip" else ()
    return (*common, *spoil_pickles.SPOILT, *archives)


def _content(rng: random.Random, file: str, container: str, spoilt: str) -> bytes:
    if spoilt == VALID:
        return seeds.valid(file, container)
    if spoilt in spoil_bytes.SPOILT:
        return spoil_bytes.SPOILT[spoilt](rng, seeds.valid(file, container))
    if spoilt in spoil_archives.SPOILT:
        return spoil_archives.SPOILT[spoilt](rng, spoil_archives.entries(seeds.valid(file, container)))
    tensors = seeds.tensors(file)
    if spoilt in spoil_headers.KINDS:
        return spoil_headers.spoilt(rng, spoilt, tensors, seeds.METADATA.get(file))
    if spoilt in spoil_pickles.SPOILT:
        return spoil_pickles.SPOILT[spoilt](rng, tensors, container)
    spoil_tensors.SPOILT[spoilt](rng, tensors)
    return seeds.serialised(rng, file, tensors, container)
