"""Files of torch.save: checked before torch reads them, read with weights only, and checked again.

What a pickle may ask of torch's own reader, though no code runs: to unpack an archive of kilobytes to gigabytes, to
make arrays and tensors that the file has no bytes for, to fill folders from a tar. None of it is in what torch.save
writes, and all of it is refused.
"""

import io
import pickletools
import sys
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

ARCHIVE = b"PK\x03\x04"
MAGIC = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19"  # at the beginning of what torch.save wrote before archives
FRONT = 32
LONGEST_PICKLE = 16 * 2**20  # bytes: of names and shapes, many times what any adapter's takes
OLDER_PICKLES = 5  # of the older format: magic number, version, system, tensors, their places
# Names behind which torch's reader would make something as large as it is told: a byte array.
TAKES_ANY_SIZE = b"\nbytearray\n"
PLAIN_TENSORS = (Tensor, torch.nn.Parameter)


class NotTensorsError(ValueError):
    """A pickled file that is not what torch.save makes of tensors; the message says what it does instead."""


def read_pickled(path: Path, device: str) -> dict[str, Tensor]:
    """Return all tensors of a file of torch.save, under dotted names. Several may share a storage, as when saved.

    device: "cpu", or "meta" for shapes without numbers. An archive is mapped for these and its numbers are not read;
    torch's own reading for "meta" forgets which tensors share a storage, so it is no measure of what is in the file.
    Raises NotTensorsError, and whatever torch's reader raises for a damaged file.
    """
    mapped = _check_container(path) and device == "meta"
    tensors = flatten(torch.load(path, map_location="cpu", mmap=mapped, weights_only=True))
    _check_tensors(tensors, path.stat().st_size)
    return {name: tensor.detach().to(device) for name, tensor in tensors.items()}


def front_of(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(FRONT)


def is_pickled(path: Path) -> bool:
    """True for a file of torch.save, by its content; a damaged archive is taken for one."""
    front = front_of(path)
    if not front.startswith(ARCHIVE):
        return MAGIC in front
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("data.pkl") for name in archive.namelist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return True


def flatten(tree: Mapping) -> dict[str, Tensor]:
    """Return nested dicts of tensors as one dict with dotted names. What is not a tensor is left out.

    Raises NotTensorsError for anything else than a dict, and for one that is in several places or in itself.
    """
    if not isinstance(tree, Mapping):
        raise NotTensorsError(f"holds no dict of tensors but {type(tree).__name__}")
    flat: dict[str, Tensor] = {}
    seen, waiting = {id(tree)}, [("", tree)]
    while waiting:
        prefix, part = waiting.pop()
        for name, value in part.items():
            if not isinstance(name, (str, int)):
                continue
            if isinstance(value, Tensor):
                flat[f"{prefix}{name}"] = value
            elif isinstance(value, Mapping) and value:
                if id(value) in seen:
                    raise NotTensorsError(f"holds one dict in several places, the last of them {str(name)[:100]!r}")
                seen.add(id(value))
                waiting.append((f"{prefix}{name}.", value))
    return flat


def _check_container(path: Path) -> bool:
    """Return True for an archive, in which nothing may be compressed, and False for torch's older format."""
    front = front_of(path)
    archive = front.startswith(ARCHIVE)
    if archive:
        pickles = _pickles_of_archive(path)
    elif MAGIC in front and not tarfile.is_tarfile(path):
        pickles = _pickles_of_older(path)
    else:
        raise NotTensorsError("does not begin as one of torch.save")
    if TAKES_ANY_SIZE in pickles:
        raise NotTensorsError("asks for a byte array, of any size")
    return archive


def _pickles_of_archive(path: Path) -> bytes:
    size = path.stat().st_size
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if any(member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1 for member in members):
            raise NotTensorsError("is a compressed archive, which torch.save does not write")
        unpacked = sum(max(member.file_size, member.compress_size) for member in members)
        if unpacked > size:
            raise NotTensorsError(f"is an archive that says it holds {unpacked:,} bytes, in a file of {size:,}")
        pickles = [member for member in members if member.filename.endswith("data.pkl")]
        if sum(member.file_size for member in pickles) > LONGEST_PICKLE:
            raise NotTensorsError("holds names and shapes of a length that no adapter has")
        # Torch turns the bytes round, those of a tensor without numbers too: a crash.
        orders = [archive.read(member) for member in members if member.filename.endswith("byteorder")]
        if any(order != sys.byteorder.encode() for order in orders):
            raise NotTensorsError("holds numbers in another byte order than this machine's")
        return b"".join(archive.read(member) for member in pickles)


def _pickles_of_older(path: Path) -> bytes:
    """Return what stands before the numbers. Raises ValueError for what is no pickle, or longer than any adapter's."""
    with path.open("rb") as file:
        stream = io.BytesIO(file.read(LONGEST_PICKLE))
    for _ in range(OLDER_PICKLES):
        for _ in pickletools.genops(stream):
            pass
    return stream.getvalue()[: stream.tell()]


def _check_tensors(tensors: Mapping[str, Tensor], size: int) -> None:
    """Raises NotTensorsError unless all are plain tensors with their numbers in the file, no more than it is long."""
    storages: dict[int, int] = {}
    for name, tensor in tensors.items():
        if type(tensor) not in PLAIN_TENSORS or tensor.layout != torch.strided or tensor.is_quantized:
            raise NotTensorsError(f"holds {name}, which is no plain tensor")
        if tensor.device.type != "cpu":
            raise NotTensorsError(f"holds {name} without its numbers")
        storage = tensor.untyped_storage()
        if tensor.numel() * tensor.element_size() > storage.nbytes():
            raise NotTensorsError(f"holds {name} as {list(tensor.shape)}, of fewer numbers than that")
        storages[storage._cdata] = storage.nbytes()
    if sum(storages.values()) > size:
        raise NotTensorsError("holds tensors of more numbers than there are in it")
