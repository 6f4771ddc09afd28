"""JSON lines that a user writes, and the files that they name, which lie in the manifest's folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

LINES_SHOWN = 20  # in a message


@dataclass(frozen=True)
class Row:
    """A line of a manifest. name: for messages."""

    name: str
    fields: dict


def read_manifest(path: Path, check: Callable[[dict], None]) -> list[Row]:
    """Return the rows of a file of JSON lines. check: raises ValueError for fields that are wrong.

    A line ends at a line feed and nowhere else: JSON may hold U+2028, say, as it is. Raises ValueError that names every
    wrong line, up to a readable number.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"A file of JSON lines was expected at {path}; it cannot be read: {error}.") from error
    rows, wrong = [], []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            name = f"line {number} of {path.name}"
            try:
                rows.append(Row(name, checked(line, check)))
            except ValueError as error:
                wrong.append(f"{name}: {error}")
    if wrong:
        more = [f"and {len(wrong) - LINES_SHOWN} more"] if len(wrong) > LINES_SHOWN else []
        first = f"{len(wrong)} lines of {path} are wrong; nothing was run."
        raise ValueError("\n".join([first, *wrong[:LINES_SHOWN], *more]))
    if not rows:
        raise ValueError(f"Lines were expected in {path}; it has none.")
    return rows


def checked(line: str, check: Callable[[dict], None]) -> dict:
    try:
        fields = json.loads(line)
    except ValueError as error:
        raise ValueError(f"It was expected to be JSON; {error}.") from error
    if not isinstance(fields, dict):
        raise ValueError(f"A JSON object was expected; it is {line.strip()[:80]}.")
    check(fields)
    return fields


def file_in(folder: Path, name: object) -> Path:
    """Return the path of a file that a manifest in this folder names. Raises ValueError for names that lead out of it,
    and where there is no file.
    """
    if not isinstance(name, str) or not name:
        raise ValueError(f"The name of a file was expected; it is {name!r}.")
    path = folder / name
    try:
        if "\0" in name or not path.resolve().is_relative_to(folder.resolve()):
            raise ValueError(f"A name inside the manifest's folder was expected; {name} leads out of it.")
        if not path.is_file():
            raise ValueError(f"A file was expected in {folder}; {name} is not there.")
    except (OSError, RuntimeError) as error:
        raise ValueError(f"{name} cannot be read: {error}.") from error
    return path
