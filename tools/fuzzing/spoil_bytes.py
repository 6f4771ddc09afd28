"""Files spoilt without knowing what they are, those of other formats, and what is no ordinary file."""

from __future__ import annotations

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

from hypothesis.strategies import DrawFn, binary, integers, just, lists, sampled_from

from fuzzing.valid_files import valid

TEN_GB = 10 * 2**30
NEAR = (16, 30, 300, 3000)  # bytes from the beginning, where headers and pickles are, or from the end: directories


def _window(draw: DrawFn, content: bytes) -> tuple[int, int]:
    size = len(content)
    part = min(draw(sampled_from((size, size, *NEAR))), size)
    return draw(sampled_from(((0, part), (size - part, size))))


def _cut_short(draw: DrawFn, content: bytes) -> bytes:
    return content[: draw(integers(*_window(draw, content)))]


def _bits_turned(draw: DrawFn, content: bytes) -> bytes:
    spoilt, (start, end) = bytearray(content), _window(draw, content)
    for bit in draw(lists(integers(8 * start, 8 * end - 1), min_size=1, max_size=draw(sampled_from((1, 2, 64))))):
        spoilt[bit // 8] ^= 1 << bit % 8
    return bytes(spoilt)


def _part_changed(draw: DrawFn, content: bytes) -> bytes:
    """Replace a part, the beginning or what is behind the end, take it away, repeat it, or put something in."""
    start = draw(integers(*_window(draw, content)) | sampled_from((0, len(content))))
    end = start + draw(sampled_from((0, 1, 3, 8, 100, 1000)))
    own, some = content[start:end], max(1, end - start)
    fillings = just(b"") | just(b"\0" * some) | just(b"\xff" * some) | binary(min_size=1, max_size=100) | just(content)
    return content[:start] + draw(fillings | sampled_from((own * 2, own * 20))) + content[end:]


BYTES = {"cut short": _cut_short, "bits turned": _bits_turned, "a part changed": _part_changed}
WAYS = (*BYTES, *BYTES, "valid")


def spoilt(draw: DrawFn, way: str, file: str, container: str) -> bytes:
    content = valid(file, container)
    return BYTES[way](draw, content) if way in BYTES else content


def _tar(content: bytes) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        for name in ("sys_info", "pickle", "tensors", "storages"):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return target.getvalue()


@functools.cache
def other_formats() -> tuple[bytes, ...]:
    return (
        *(b"", b"{", b"hello\n" * 50, bytes(5000), b'{"model": "sd15"}', b"<!DOCTYPE html>\n<html></html>\n"),
        *(b"version https://git-lfs.github.com/spec/v1\n", b"\x7fELF" + bytes(200), b"\x89HDF\r\n\x1a\n" + bytes(500)),
        *(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(20), b"GGUF" + struct.pack("<IQQ", 3, 2**40, 2**40)),
        *(b"PK\x05\x06" + bytes(18), b"PK\x03\x04" + bytes(50)),
        b"\x93NUMPY\x01\x00v\x00{'descr': '|O', 'fortran_order': False, 'shape': (1,)}".ljust(127) + b"\n",
        *(gzip.compress(valid("base", "zip"), mtime=0), bz2.compress(valid("base", "safetensors"))),
        *(lzma.compress(valid("base", "safetensors")[:1000]), _tar(valid("base", "legacy"))),
    )


@functools.cache
def fronts() -> tuple[bytes, ...]:
    """Return beginnings of files of 10 GB that take up no more than this."""
    one = {"image_proj.latents": {"dtype": "U8", "shape": [TEN_GB - 136], "data_offsets": [0, TEN_GB - 136]}}
    headers = (struct.pack("<Q", TEN_GB - 8) + b'{"a":', struct.pack("<Q", 128) + json.dumps(one).encode().ljust(128))
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
