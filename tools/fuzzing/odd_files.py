"""The odd things in a models folder: files of other formats, sparse ones of 10 GB, and what is no file at all."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import random
import socket
import struct
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path

from fuzzing.seeds import valid

TEN_GB = 10 * 2**30


def tar(content: bytes) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        for name in ("sys_info", "pickle", "tensors", "storages"):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return target.getvalue()


def png() -> bytes:
    chunk = struct.pack(">I", 13) + b"IHDR" + struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", zlib.crc32(chunk[4:]))


FORMATS: dict[str, Callable[[], bytes]] = {
    "empty": lambda: b"",
    "one byte": lambda: b"{",
    "web page": lambda: b"<!DOCTYPE html>\n<html><body>404</body></html>\n",
    "Git LFS pointer": lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:8a4e97\nsize 352\n",
    "PNG": png,
    "JSON": lambda: json.dumps({"model": "sd15"}).encode(),
    "text": lambda: b"hello\n" * 50,
    "gzip": lambda: gzip.compress(valid("base", "zip"), mtime=0),
    "bzip2": lambda: bz2.compress(valid("base", "safetensors")),
    "xz": lambda: lzma.compress(valid("base", "safetensors")[:1000]),
    "tar": lambda: tar(valid("base", "legacy")),
    "GGUF": lambda: b"GGUF" + struct.pack("<IQQ", 3, 2**40, 2**40),
    "ELF": lambda: b"\x7fELF" + bytes(200),
    "npy": lambda: b"\x93NUMPY\x01\x00v\x00{'descr': '|O', 'fortran_order': False, 'shape': (1,)}" + b" " * 60 + b"\n",
    "HDF5": lambda: b"\x89HDF\r\n\x1a\n" + bytes(500),
    "zeros": lambda: bytes(5000),
    "end of an archive": lambda: b"PK\x05\x06" + bytes(18),
    "beginning of an archive": lambda: b"PK\x03\x04" + bytes(50),
}


def sparse(front: bytes, size: int = TEN_GB) -> Callable[[Path], None]:
    """A file of this size that takes up no more than its beginning."""

    def write(path: Path) -> None:
        path.write_bytes(front)
        os.truncate(path, size)

    return write


def one_tensor_of_ten_gb() -> bytes:
    size = TEN_GB - 8 - 128
    entry = {"image_proj.latents": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}
    return struct.pack("<Q", 128) + json.dumps(entry).encode().ljust(128)


def unix_socket(path: Path) -> None:
    """Make a socket, bound by a short name, since those of sockets have a limit."""
    here = os.open(path.parent, os.O_RDONLY)
    try:
        with socket.socket(socket.AF_UNIX) as end:
            end.bind(f"/proc/self/fd/{here}/{path.name}")
    finally:
        os.close(here)


PLACES: dict[str, Callable[[Path], None]] = {
    "sparse: zeros": sparse(b""),
    "sparse: header of 10 GB": sparse(struct.pack("<Q", TEN_GB - 8) + b'{"a":'),
    "sparse: adapter with 10 GB behind it": lambda path: sparse(valid("base", "safetensors"))(path),
    "sparse: archive with 10 GB behind it": lambda path: sparse(valid("base", "zip"))(path),
    "sparse: old pickle with 10 GB behind it": lambda path: sparse(valid("base", "legacy"))(path),
    "sparse: a tensor of 10 GB": lambda path: sparse(one_tensor_of_ten_gb())(path),
    "directory": lambda path: path.mkdir(),
    "FIFO": lambda path: os.mkfifo(path),
    "link to itself": lambda path: path.symlink_to(path.name),
    "link to nothing": lambda path: path.symlink_to("nothing here"),
    "link to endless zeros": lambda path: path.symlink_to("/dev/zero"),
    "link to nothing at all": lambda path: path.symlink_to("/dev/null"),
    "link to random numbers": lambda path: path.symlink_to("/dev/urandom"),
    "socket": unix_socket,
    "no file": lambda path: None,
}


def content(rng: random.Random, name: str) -> bytes:
    """A file of another format, sometimes with more behind it."""
    return FORMATS[name]() + rng.choice((b"", b"", rng.randbytes(20)))
