"""Inputs drawn by hypothesis, from a seed and an index: the same ones always."""

import os
import random
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import given, settings
from hypothesis.strategies import DrawFn, composite, integers, sampled_from

from fuzzing import spoil_bytes, spoil_headers, spoil_tensors, spoil_torch_files
from fuzzing.spoil_bytes import PLACES, TEN_GB, fronts, other_formats
from fuzzing.valid_files import FILES

READERS = ("adapter",) * 12 + ("embeds", "faces", "tower")  # what is read, in which share of the inputs
CONTAINERS = ("safetensors",) * 5 + ("zip",) * 3 + ("legacy",) * 2
ANY = (*spoil_bytes.SPOILERS, *spoil_tensors.SPOILERS)
SPOILERS = {
    "safetensors": (*ANY, *spoil_headers.SPOILERS),
    "zip": (*ANY, *spoil_torch_files.PICKLES, *spoil_torch_files.ARCHIVES),
    "legacy": (*ANY, *spoil_torch_files.PICKLES),
}
NAMES = ("adapter", "adapter", "ip-adapter-faceid-plusv2_x")
OTHER_FORMAT, SPARSE = "another format", "10 GB of nothing behind"
DRAWN = 8192  # random bytes for one input, of which strategies take what they need


@dataclass(frozen=True)
class Input:
    """An input. reader: what is to read it. file: the valid file it was made of. spoilt: in which way.

    content: its bytes; none where `spoilt` names what stands in place of an ordinary file.
    """

    reader: str
    file: str
    spoilt: str
    name: str
    content: bytes = field(default=b"", repr=False)

    def write(self, folder: Path) -> Path:
        path = folder / self.name
        PLACES.get(self.spoilt, lambda place: place.write_bytes(self.content))(path)
        if self.spoilt == SPARSE:
            os.truncate(path, TEN_GB)
        return path


@composite
def inputs(draw: DrawFn) -> Input:
    reader = draw(sampled_from(READERS))
    file = draw(sampled_from(sorted(FILES[reader])))
    container = draw(sampled_from(CONTAINERS)) if reader in ("adapter", "tower") else "safetensors"
    own = ".safetensors" if container == "safetensors" else ".bin"
    name = draw(sampled_from(NAMES)) + draw(sampled_from((own,) * 9 + (".safetensors", ".bin", ".pt")))
    if draw(integers(0, 19)):
        spoiler = draw(sampled_from(SPOILERS[container]))
        return Input(reader, file, spoiler.__name__.replace("_", " "), name, spoiler(draw, file, container))
    odd = draw(sampled_from((*(OTHER_FORMAT, SPARSE) * 6, *PLACES)))
    made = {OTHER_FORMAT: other_formats, SPARSE: fronts}
    return Input(reader, file, odd, name, draw(sampled_from(made[odd]())) if odd in made else b"")


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
