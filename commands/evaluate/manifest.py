"""The rows that adapters are tried on: a file of JSON lines, beside its references.

    {"reference": "cat.png", "task": "style", "prompt": "a boat at sea", "seed": 7, "caption": "a cat on a sofa"}
    {"reference": "ann/1.png", "instruction": "use the hat", "prompt": "a man", "seed": 1, "identity": "ann"}

"instruction" may be a list of wordings. "caption" says what is on the reference: CLIP-T and CLIP-S need it.
"identity" names who is on it: LPIPS compares the images made of one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ...models.guidance.tasks import KNOWN, phrasings
from ...models.messages import HALF_CHARACTER, short
from ..servers.manifest import LINES_SHOWN, file_in
from ..servers.manifest import read_manifest as read_lines

ROW_FIELDS = ("reference", "task", "instruction", "prompt", "seed", "caption", "identity")
LARGEST_SEED = (1 << 64) - 1


@dataclass(frozen=True)
class Row:
    """One trial. place: for messages. wordings: of the instruction, the plain one first.

    reference: a path inside the manifest's folder. caption, identity: "" where not given.
    """

    place: str
    reference: str
    task: str
    wordings: tuple[str, ...]
    prompt: str
    seed: int
    caption: str = ""
    identity: str = ""

    @property
    def content(self) -> tuple:
        """Everything that the row says, wherever it stands."""
        return self.reference, self.task, self.wordings, self.prompt, self.seed, self.caption, self.identity


@dataclass(frozen=True)
class Manifest:
    """Rows, and the folder that their references are in. digests: of each reference's content."""

    folder: Path
    rows: tuple[Row, ...]
    digests: dict[str, str]

    def path(self, row: Row) -> Path:
        return self.folder / row.reference


def read_manifest(path: Path) -> Manifest:
    """Read a manifest. Raises ValueError, which names every wrong line up to a readable number, for a wrong one."""
    collected = Collected(path.parent)
    lines = read_lines(path, collected.take)
    return collected.manifest([line.name for line in lines])


def manifest_of(folder: Path, given: Iterable[tuple[str, Callable[[], dict]]], remedy: str) -> Manifest:
    """Return a manifest of the lines that `given` makes, with a place for messages of each.

    Raises ValueError, which names every wrong place up to a readable number and ends in the remedy, also for no lines.
    """
    collected, places, wrong = Collected(folder), [], []
    for place, make in given:
        try:
            collected.take(make())
            places.append(place)
        except ValueError as error:
            wrong.append(f"{place}: {error}")
    if wrong:
        more = [f"and {len(wrong) - LINES_SHOWN} more"] if len(wrong) > LINES_SHOWN else []
        raise ValueError("\n".join([f"{folder} was not run: {len(wrong)} wrong.", *wrong[:LINES_SHOWN], *more, remedy]))
    if not places:
        raise ValueError(f"Pictures were expected in {folder}; there are none. {remedy}")
    return collected.manifest(places)


class Collected:
    """Rows that are collected line by line."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.rows: list[Row] = []
        self.known: set[tuple] = set()
        self.digests: dict[str, str | ValueError] = {}

    def take(self, line: dict) -> None:
        """Take a line. Raises ValueError for a wrong one, for one that was taken, and for an unreadable reference."""
        row = row_of(line)
        found = self.digests[row.reference] = self.digests.get(row.reference) or _digest(self.folder, row.reference)
        if isinstance(found, ValueError):
            raise found
        if row.content in self.known:
            raise ValueError("It says the same as an earlier one. Leave it out, or give it another seed.")
        self.known.add(row.content)
        self.rows.append(row)

    def manifest(self, places: Sequence[str]) -> Manifest:
        rows = (replace(row, place=place) for row, place in zip(self.rows, places, strict=True))
        return Manifest(self.folder, tuple(rows), {name: str(digest) for name, digest in self.digests.items()})


def row_of(line: dict) -> Row:
    """Return the row of a line, without its place. Raises ValueError for a wrong one."""
    unknown = sorted(line.keys() - set(ROW_FIELDS))
    if unknown:
        raise ValueError(f"{', '.join(ROW_FIELDS)} were expected and nothing else; it has {short(', '.join(unknown))}.")
    given = line.get("instruction", [])
    given = [given] if isinstance(given, str) else given
    if not isinstance(given, list) or not all(isinstance(text, str) and text.strip() for text in given):
        raise ValueError("The instruction was expected to be a text, or a list of texts.")
    task = _text(line, "task") or next(iter(given), "")
    if not given and task not in KNOWN:
        raise ValueError(f"An instruction was expected, or one of the tasks {', '.join(KNOWN)}.")
    seed = line.get("seed")
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed <= LARGEST_SEED:
        raise ValueError(f"The seed was expected to be a whole number from 0; it is {short(repr(seed))}.")
    prompt = _text(line, "prompt")
    if not prompt.strip():
        raise ValueError("A prompt was expected; there is none.")
    return Row(
        place="",
        reference=_text(line, "reference"),
        task=task,
        wordings=tuple(given) or _wordings(task),
        prompt=prompt,
        seed=seed,
        caption=_text(line, "caption"),
        identity=_text(line, "identity"),
    )


def _wordings(task: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys([KNOWN[task].instruction, *phrasings(KNOWN[task])]))


def _text(line: dict, field: str) -> str:
    value = line.get(field, "")
    if not isinstance(value, str) or HALF_CHARACTER.search(value):
        raise ValueError(f"The {field} was expected to be a text; it is {short(repr(value))}.")
    return value


def _digest(folder: Path, name: str) -> str | ValueError:
    """Return what tells a reference's content apart."""
    from PIL import Image

    try:
        path = file_in(folder, name)
        with Image.open(path):
            return hashlib.blake2b(path.read_bytes(), digest_size=20).hexdigest()
    except ValueError as error:
        return error
    except Exception as error:  # Pillow's decoders raise errors of many kinds
        return ValueError(f"{name} was expected to be a picture; it cannot be read: {error}.")
