"""Archives that are not what torch writes: packed, doubled, nested, with names from elsewhere."""

from __future__ import annotations

import functools
import io
import re
import struct
import warnings
import zipfile
from zipfile import ZIP_DEFLATED, ZIP_LZMA, ZIP_STORED

from hypothesis.strategies import DrawFn, binary, integers, sampled_from

from fuzzing.spoil_tensors import PARTS, Parts, changed
from fuzzing.valid_files import valid

ROOTS = ("", "/", "../", "/etc/", "C:\\", "a/b/", "x" * 5000 + "/", "\u202e/", ".")
NAMES = ("../../canary", "/tmp/canary", "x", "data.pkl")
STRANGERS = (b"#!/bin/sh\ntouch canary\n", b"\x89PNG\r\n\x1a\n", b"{" * 9, b"\0" * 64, b"\x80\x02.")
FIELDS = ((8, 2), (10, 2), (20, 4), (24, 4), (28, 2), (30, 2), (42, 4))  # of an entry of the directory: place and size
SIZES = sampled_from((0, 1, 8, 0xFFFF, 2**31 - 1, 2**32 - 1)) | integers(0, 2**32 - 1)
SCRIPT = ("archive/constants.pkl", b"\x80\x02)."), ("archive/code/__torch__.py", b"import os\nos.mkdir('canary')\n")


def members(content: bytes) -> Parts:
    archive = zipfile.ZipFile(io.BytesIO(content))
    return [(entry.filename, archive.read(entry)) for entry in archive.infolist()]


def packed(inside: Parts, method: int = ZIP_STORED, only: str = "") -> bytes:
    """Return an archive in which those members are compressed whose names end in `only`."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", compresslevel=1) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of doubled names
        for name, content in inside:
            entry = zipfile.ZipInfo(name)  # without today's date
            archive.writestr(entry, content, method if name.endswith(only) else ZIP_STORED)
    return target.getvalue()


@functools.cache
def _bomb(place: str) -> bytes:
    """Return less than 1 MB that unpacks to 128 MB: as a tensor's numbers, as the pickle itself, or as a stranger."""
    inside, large = [*members(valid("base", "zip")), ("archive/more", b"")], bytes(2**27)
    return packed([(name, large if name.endswith(place) else content) for name, content in inside], ZIP_DEFLATED)


def _nested(draw: DrawFn, inside: Parts) -> bytes:
    inner, (name, _) = packed(inside), draw(sampled_from(inside))
    for _ in range(draw(sampled_from((1, 2, 20)))):
        inner = packed([(name, inner)])
    return draw(sampled_from((inner, packed([(n, inner if n == name else content) for n, content in inside]))))


def _directory(draw: DrawFn, inside: Parts) -> bytes:
    content = bytearray(packed(inside))
    place, (field, size) = draw(sampled_from(list(re.finditer(b"PK\1\2", content)))).start(), draw(sampled_from(FIELDS))
    content[place + field : place + field + size] = struct.pack("<I", draw(SIZES))[:size]
    content[draw(integers(-14, -1))] ^= draw(sampled_from((0, 0, 1, 128, 255)))
    return bytes(content)


WAYS = (*PARTS, "compressed", "bomb", "bomb", "inside an archive", "TorchScript", "directory", "among other bytes")


def spoilt(draw: DrawFn, way: str, file: str, container: str) -> bytes:
    content = valid(file, container)
    inside = members(content)
    if way == "compressed":
        return packed(inside, draw(sampled_from((ZIP_DEFLATED, ZIP_LZMA))), draw(sampled_from(("", "pkl"))))
    if way == "bomb":
        return _bomb(draw(sampled_from(("/data/0", "data.pkl", "archive/more", ".data/serialization_id"))))
    if way == "inside an archive":
        return _nested(draw, inside)
    if way == "TorchScript":
        return packed([*inside, *SCRIPT])
    if way == "directory":
        return _directory(draw, inside)
    if way == "among other bytes":
        stranger = draw(sampled_from(STRANGERS))
        return draw(sampled_from((stranger + content, content + stranger, content + content)))
    root, odd, other = draw(sampled_from(ROOTS)), draw(sampled_from(NAMES)), draw(sampled_from(inside))[1]
    called = (lambda name: root + name.split("/", 1)[-1], lambda name: odd, str.upper, lambda name: name + "/")
    made = (
        bytes,
        lambda old: old * 3,
        lambda old: old[: len(old) // 2],
        lambda old: old.replace(b"little", b"big"),
        lambda old: b"",
    )
    odd_values = sampled_from((*made, lambda old: other)) | binary(max_size=100).map(lambda new: lambda old: new)
    return packed(changed(draw, way, inside, draw(sampled_from(called)), draw(odd_values)))
