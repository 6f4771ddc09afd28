"""Archives that are not what torch writes: packed, doubled, nested, with names from elsewhere."""

from __future__ import annotations

import functools
import io
import random
import struct
import warnings
import zipfile
from collections.abc import Callable

Entries = list[tuple[str, bytes]]

BOMB = 2**27


def entries(content: bytes) -> Entries:
    archive = zipfile.ZipFile(io.BytesIO(content))
    return [(entry.filename, archive.read(entry)) for entry in archive.infolist()]


def packed(inside: Entries, method: int = zipfile.ZIP_STORED, only: str = "") -> bytes:
    """Return an archive in which those members are compressed whose names end in `only`."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", compresslevel=1) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of doubled names
        for name, content in inside:
            entry = zipfile.ZipInfo(name)  # without today's date
            archive.writestr(entry, content, method if name.endswith(only) else zipfile.ZIP_STORED)
    return target.getvalue()


def compressed(rng: random.Random, inside: Entries) -> bytes:
    return packed(inside, rng.choice((zipfile.ZIP_DEFLATED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA)), inside[0][0])


@functools.cache
def bomb_member() -> bytes:
    return b"\0" * BOMB


@functools.cache
def bomb(place: str) -> bytes:
    """Return less than 1 MB that unpacks to 128 MB: as a tensor's numbers, as the pickle itself, or as a stranger."""
    from fuzzing.seeds import valid

    inside = entries(valid("base", "zip"))
    if place == "stranger":
        return packed([*inside, (inside[0][0].split("/")[0] + "/more", bomb_member())], zipfile.ZIP_DEFLATED)
    changed = [(name, bomb_member() if name.endswith(place) else content) for name, content in inside]
    return packed(changed, zipfile.ZIP_DEFLATED)


def bombs(rng: random.Random, inside: Entries) -> bytes:
    return bomb(rng.choice(("/data/0", "data.pkl", "stranger", ".data/serialization_id")))


def renamed(rng: random.Random, inside: Entries) -> bytes:
    root = rng.choice(("", "/", "../", "/etc/", "C:\\", "a/b/", "x" * 5000 + "/", "\u202e/", "."))
    return packed([(root + name.split("/", 1)[-1], content) for name, content in inside])


def one_renamed(rng: random.Random, inside: Entries) -> bytes:
    place = rng.randrange(len(inside))
    name, content = inside[place]
    new = rng.choice(("../../canary", "/tmp/canary", name + "x", name.upper(), "x", "data.pkl", name + "/"))
    return packed([*inside[:place], (new, content), *inside[place + 1 :]])


def doubled(rng: random.Random, inside: Entries) -> bytes:
    name, content = rng.choice(inside)
    other = rng.choice((content, b"", content[:10], rng.randbytes(100), content * 2))
    return packed(rng.choice(([*inside, (name, other)], [(name, other), *inside])))


def lacking(rng: random.Random, inside: Entries) -> bytes:
    kept = list(inside)
    for _ in range(rng.choice((1, 1, 3))):
        kept.pop(rng.randrange(len(kept)))
        if not kept:
            break
    return packed(kept)


def exchanged(rng: random.Random, inside: Entries) -> bytes:
    """Members whose contents are another's, longer, shorter or nothing."""
    place = rng.randrange(len(inside))
    name, content = inside[place]
    other = rng.choice((inside[rng.randrange(len(inside))][1], content * 3, content[: len(content) // 2], b"", b"big"))
    return packed([*inside[:place], (name, other), *inside[place + 1 :]])


def nested(rng: random.Random, inside: Entries) -> bytes:
    """An archive inside an archive, once or many times, as all there is or as a member."""
    inner, root = packed(inside), inside[0][0].split("/")[0]
    where = rng.choice(("adapter.bin", f"{root}/data.pkl", f"{root}/data/0"))
    for _ in range(rng.choice((1, 2, 20))):
        inner = packed([(where, inner)])
    if where == "adapter.bin" or rng.random() < 0.3:
        return inner
    return packed([(name, inner if name == where else content) for name, content in inside])


def script(rng: random.Random, inside: Entries) -> bytes:
    """Return an archive as TorchScript writes it, which holds code."""
    root = inside[0][0].split("/")[0]
    code = (f"{root}/code/__torch__.py", b"import os\nos.system('touch canary')\n")
    return packed([*inside, (f"{root}/constants.pkl", b"\x80\x02)."), code])


def directory(rng: random.Random, inside: Entries) -> bytes:
    """Spoil sizes, places and flags in the archive's directory."""
    content = bytearray(packed(inside))
    places, start = [], 0
    while (start := content.find(b"PK\x01\x02", start)) >= 0:
        places.append(start)
        start += 4
    place = rng.choice(places)
    field, size = rng.choice(((8, 2), (10, 2), (20, 4), (24, 4), (28, 2), (30, 2), (42, 4)))
    value = rng.choice((0, 1, 8, 0xFFFF, 2**31 - 1, 2**32 - 1, rng.randrange(2**32))) % 2 ** (8 * size)
    content[place + field : place + field + size] = struct.pack("<I", value)[:size]
    if rng.random() < 0.3:
        end = content.rfind(b"PK\x05\x06")
        content[end + 8 + rng.randrange(12)] = rng.randrange(256)
    return bytes(content)


def embedded(rng: random.Random, inside: Entries) -> bytes:
    """Put something before the archive, or behind it."""
    stranger = rng.choice((b"#!/bin/sh\ntouch canary\n", b"\x89PNG\r\n\x1a\n", b"{" * 9, b"\0" * 64, b"\x80\x02."))
    content = packed(inside)
    return rng.choice((stranger + content, content + stranger, content + content))


SPOILT: dict[str, Callable[[random.Random, Entries], bytes]] = {
    "archive: compressed": compressed,
    "archive: bomb": bombs,
    "archive: all names": renamed,
    "archive: one name": one_renamed,
    "archive: a name twice": doubled,
    "archive: members lacking": lacking,
    "archive: members exchanged": exchanged,
    "archive: inside an archive": nested,
    "archive: TorchScript": script,
    "archive: directory": directory,
    "archive: among other bytes": embedded,
}
