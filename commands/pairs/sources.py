"""The pictures that pairs are made of, with what is known of each.

In a folder: pictures, in folders of their own where they show one person each, and beside each what is known of it:
a.txt is the caption of a.png, a.mask.png its mask, a.pose.png its pose, a.object.txt the name of the object in it.
Or in a file of JSON lines, in whose folder they are:

    {"picture": "a.png", "caption": "a helmet on a table", "mask": "a-mask.png", "object": "helmet"}

The other fields are "pose", "identity", and "prompt" for what the new picture is to show.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path

from ...models.messages import HALF_CHARACTER
from ..servers.manifest import file_in, read_manifest

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
FILES = ("picture", "mask", "pose")
BESIDE = {"mask": PICTURE_SUFFIXES, "pose": PICTURE_SUFFIXES, "object": (".txt",), "prompt": (".txt",)}


@dataclass(frozen=True)
class Source:
    """A picture. place: for messages. picture, mask, pose: names inside the folder. All others are "" where unknown."""

    place: str
    picture: str
    caption: str = ""
    prompt: str = ""
    object: str = ""
    mask: str = ""
    pose: str = ""
    identity: str = ""


SOURCE_FIELDS = tuple(one.name for one in fields(Source) if one.name != "place")


@dataclass(frozen=True)
class Sources:
    """Pictures, and the folder that their files are in."""

    folder: Path
    all: tuple[Source, ...]


def read_sources(place: Path) -> Sources:
    """Read a folder of pictures, or a file of JSON lines. Raises ValueError, which names every wrong line."""
    if place.is_dir():
        found = Sources(place, tuple(in_folder(place)))
        if not found.all:
            raise ValueError(f"Pictures ({', '.join(PICTURE_SUFFIXES)}) were expected in {place}; there are none.")
        return found
    rows = read_manifest(place, lambda line: check_line(place.parent, line))
    return Sources(place.parent, tuple(Source(row.name, **row.fields) for row in rows))


def in_folder(folder: Path) -> Iterable[Source]:
    """Yield the pictures of a folder, in the order of their names, with what stands beside them."""
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    for name in sorted(there):
        stem, dot, suffix = name.rpartition(".")
        if dot + suffix.lower() not in PICTURE_SUFFIXES or stem.rpartition(".")[2] in BESIDE:
            continue
        beside = {field: next((f"{stem}.{field}{one}" for one in ends if f"{stem}.{field}{one}" in there), "")
                  for field, ends in BESIDE.items()}  # fmt: skip
        texts = {field: text_of(folder / file) for field, file in beside.items() if file.endswith(".txt")}
        caption = text_of(folder / f"{stem}.txt") if f"{stem}.txt" in there else ""
        yield Source(name, name, **{**beside, **texts, "caption": caption, "identity": name.rpartition("/")[0]})


def text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} was expected to be a text in UTF-8; {error}.") from error


def check_line(folder: Path, line: dict) -> None:
    """Raises ValueError for a line that has other fields, or names files that are not there."""
    unknown = sorted(line.keys() - set(SOURCE_FIELDS))
    if unknown or "picture" not in line:
        raise ValueError(
            f"It was expected to have a picture, and else {', '.join(SOURCE_FIELDS)} only; it has {list(line)}."
        )
    for name, value in line.items():
        if not isinstance(value, str) or HALF_CHARACTER.search(value):
            raise ValueError(f"A text was expected as {name}; it is {value!r}.")
        if name in FILES and (value or name == "picture"):
            file_in(folder, value)
