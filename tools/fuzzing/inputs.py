"""Inputs drawn by hypothesis, from a seed and an index: the same ones always."""

from __future__ import annotations

import os
import random
from dataclasses import dataclass
from pathlib import Path

from hypothesis import given, settings
from hypothesis.strategies import DrawFn, composite, sampled_from

from fuzzing import spoil_archives, spoil_bytes, spoil_headers, spoil_pickles, spoil_tensors
from fuzzing.spoil_bytes import PLACES, TEN_GB, fronts, other_formats
from fuzzing.valid_files import FILES

READERS = ("adapter",) * 12 + ("embeds", "faces", "tower")  # what is read, in which share of the inputs
CONTAINERS = ("safetensors",) * 5 + ("zip",) * 3 + ("legacy",) * 2
SPOILT_BY = {
    "safetensors": (spoil_bytes, spoil_tensors, spoil_headers),
    "zip": (spoil_bytes, spoil_tensors, spoil_pickles, spoil_archives),
    "legacy": (spoil_bytes, spoil_tensors, spoil_pickles),
}
WAYS = {
    container: sampled_from([(module, way) for module in modules for way in module.WAYS])
    for container, modules in SPOILT_BY.items()
}
NAMES = ("adapter", "adapter", "ip-adapter-faceid-plusv2_x")
OTHER_FORMAT, SPARSE = "another format", "10 GB of nothing behind"
ODD = sampled_from((*(OTHER_FORMAT, SPARSE) * 6, *PLACES))
DRAWN = 8192  # random bytes for one input, of which strategies take what they need


@dataclass(frozen=True, repr=False)
class Input:
    """An input. reader: what is to read it. file: the valid file it was made of. spoilt: in which way.

    content: its bytes; nothing where `spoilt` names what stands in place of an ordinary file.
    """

    reader: str
    file: str
    spoilt: str
    name: str
    content: bytes = b""

    def write(self, folder: Path) -> Path:
        path = folder / self.name
        if self.spoilt in PLACES:
            PLACES[self.spoilt](path)
            return path
        path.write_bytes(self.content)
        if self.spoilt == SPARSE:
            os.truncate(path, TEN_GB)
        return path

    def __repr__(self) -> str:
        return f"{self.reader}, {self.file} as {self.name}, {self.spoilt}"


@composite
def inputs(draw: DrawFn) -> Input:
    reader = draw(sampled_from(READERS))
    file = draw(sampled_from(sorted(FILES[reader])))
    container = draw(sampled_from(CONTAINERS)) if reader in ("adapter", "tower") else "safetensors"
    own = ".safetensors" if container == "safetensors" else ".bin"
    name = draw(sampled_from(NAMES)) + draw(sampled_from((own,) * 9 + (".safetensors", ".bin", ".pt")))
    if draw(sampled_from(range(20))) == 0:
        odd = draw(ODD)
        made = {OTHER_FORMAT: other_formats, SPARSE: fronts}
        return Input(reader, file, odd, name, draw(sampled_from(made[odd]())) if odd in made else b"")
    module, way = draw(WAYS[container])
    level = module.__name__.rpartition("_")[2]
    return Input(reader, file, f"{level}: {way}", name, module.spoilt(draw, way, file, container))


_made: list[Input] = []


@settings(database=None, deadline=None)
@given(inputs())
def _keep(made: Input) -> None:
    _made.append(made)


_from_bytes = _keep.hypothesis.fuzz_one_input


def make(seed: int, index: int) -> Input:
    """Return the input of this seed and index."""
    _from_bytes(random.Random(f"{seed}:{index}").randbytes(DRAWN))
    return _made.pop()
