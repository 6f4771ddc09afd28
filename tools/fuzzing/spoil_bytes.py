"""Files spoilt without knowing what they are, those of other formats, and what is no ordinary file.

Each of the SPOILERS, here and in the modules beside this one, draws a file's bytes from its name and container. Some
stand there several times, since more depends on them.
"""

import bz2
import functools
import gzip
import io
import json
import lzma
import os
import socket
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path

from hypothesis.strategies import DrawFn, SearchStrategy, binary, integers, sampled_from

from fuzzing.valid_files import valid, with_header

TEN_GB = 10 * 2**30
NEAR = (16, 30, 300, 3000)  # bytes from the beginning, where headers and pickles are, or from the end: directories
RANDOM = binary(max_size=100)


def edited(draw: DrawFn, content: bytes, odd: SearchStrategy[bytes] = RANDOM) -> bytes:
    """Cut content short, turn its bits, repeat a part, or put something in its place; once or several times.

    odd: what may come there.
    """
    whole = content
    for _ in range(draw(sampled_from((1, 1, 1, 2, 20)))):
        size = len(content)
        place = draw(integers(0, min(draw(sampled_from((size, size, *NEAR))), size)))
        start = draw(sampled_from((place, size - place)))
        own = content[start : start + draw(sampled_from((0, 1, 1, 1, 3, 8, 100, 1000, size)))]
        turned = bytes([own[0] ^ 1 << draw(integers(0, 7))]) + own[1:] if own else b"\1"
        twice = whole if size <= len(whole) else b""
        fillings = (b"", turned, turned, b"\0" * len(own), b"\xff" * len(own), twice, own[:1000] * 20)
        content = content[:start] + draw(sampled_from(fillings) | odd) + content[start + len(own) :]
    return content


def bytes_edited(draw: DrawFn, file: str, container: str) -> bytes:
    return edited(draw, valid(file, container))


def nothing(draw: DrawFn, file: str, container: str) -> bytes:
    return valid(file, container)


SPOILERS = (*(bytes_edited,) * 6, nothing)


@functools.cache
def other_formats() -> tuple[bytes, ...]:
    plain, archive, tar = valid("base", "safetensors"), valid("base", "zip"), io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as members:
        for name in ("sys_info", "pickle", "tensors", "storages"):
            members.addfile(tarfile.TarInfo(name))
    return (
        *(b"", b"{", b"hello\n" * 50, bytes(5000), b'{"model": "sd15"}', b"<!DOCTYPE html>\n<html></html>\n"),
        *(b"version https://git-lfs.github.com/spec/v1\n", b"\x7fELF" + bytes(200), b"\x89HDF\r\n\x1a\n" + bytes(500)),
        *(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(20), b"GGUF" + struct.pack("<IQQ", 3, 2**40, 2**40)),
        *(b"PK\x05\x06" + bytes(18), b"PK\x03\x04" + bytes(50), tar.getvalue()),
        b"\x93NUMPY\x01\x00v\x00{'descr': '|O', 'fortran_order': False, 'shape': (1,)}".ljust(127) + b"\n",
        *(gzip.compress(archive, mtime=0), bz2.compress(plain), lzma.compress(plain[:1000])),
    )


@functools.cache
def fronts() -> tuple[bytes, ...]:
    """Return beginnings of files of 10 GB that take up no more than this."""
    one = {"image_proj.latents": {"dtype": "U8", "shape": [TEN_GB - 136], "data_offsets": [0, TEN_GB - 136]}}
    headers = (struct.pack("<Q", TEN_GB - 8) + b'{"a":', with_header(json.dumps(one).encode().ljust(128), b""))
    return (b"", *headers, *(valid("base", container) for container in ("safetensors", "zip", "legacy")))


# What stands in place of an ordinary file, made at a path in the working directory.
PLACES: dict[str, Callable[[Path], object]] = {
    "directory": Path.mkdir,
    "FIFO": os.mkfifo,
    "link to itself": lambda path: path.symlink_to(path.name),
    "link to nothing": lambda path: path.symlink_to("nothing here"),
    "link to endless zeros": lambda path: path.symlink_to("/dev/zero"),
    "link to nothing at all": lambda path: path.symlink_to("/dev/null"),
    "link to random numbers": lambda path: path.symlink_to("/dev/urandom"),
    "socket": lambda path: socket.socket(socket.AF_UNIX).bind(path.name),
    "no file": lambda path: None,
}
