"""Wordings of tasks: the pack's, and a user's own in files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...models.guidance.tasks import KNOWN, TASKS, phrasings
from ..servers.manifest import read_manifest

PAIRS_FILE = "pairs.jsonl"
JSON_EXAMPLE = '{"style": ["use the style", "take its look"]}'


@dataclass(frozen=True)
class Wording:
    """A task said in words. own: a user's. plain: the one that a task's name stands for."""

    task: str
    text: str
    own: bool = False
    plain: bool = False


def packs_wordings() -> list[Wording]:
    """Return every wording that the pack has of every task, the plain one among them."""
    return [Wording(task.name, text, plain=text == task.instruction) for task in TASKS for text in phrasings(task)]


def own_wordings(places: Iterable[Path]) -> list[Wording]:
    """Read a user's wordings. Raises ValueError, which names every wrong line, for a place that has none."""
    return [Wording(task, text, own=True) for place in places for task, text in _read(place)]


def each_once(wordings: Sequence[Wording]) -> list[Wording]:
    """Return every wording of a task once, whatever its case; a user's own stands for the pack's."""
    found: dict[tuple[str, str], Wording] = {}
    for wording in wordings:
        key = wording.task, wording.text.strip().lower()
        if key not in found or wording.own:
            found[key] = wording
    return list(found.values())


def _read(place: Path) -> list[tuple[str, str]]:
    path = place / PAIRS_FILE if place.is_dir() else place
    if not path.is_file():
        raise ValueError(f"Wordings were expected in {path}; it is not there. Name a file such as {JSON_EXAMPLE}.")
    found = list(_in_json(path) if path.suffix.lower() == ".json" else _in_lines(path))
    if not found:
        raise ValueError(f"Wordings were expected in {path}; it has none of its own. Give instructions there.")
    return found


def _in_json(path: Path) -> Iterator[tuple[str, str]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path.name} was expected to be JSON such as {JSON_EXAMPLE}; {error}.") from None
    lists = content.values() if isinstance(content, dict) else [None]
    if not all(isinstance(texts, list) and all(isinstance(text, str) for text in texts) for texts in lists):
        raise ValueError(f"{path.name} was expected to hold a list of texts for each task, such as {JSON_EXAMPLE}.")
    for task, texts in content.items():
        yield from ((task, text) for text in texts if text.strip())


def _in_lines(path: Path) -> Iterator[tuple[str, str]]:
    for row in read_manifest(path, _check):
        texts = _texts(row.fields)
        yield from ((row.fields.get("task") or texts[0], text) for text in texts)


def _check(fields: dict) -> None:
    texts, task = _texts(fields), fields.get("task")
    if not (isinstance(task, str) or task is None) or not all(isinstance(text, str) and text.strip() for text in texts):
        raise ValueError("A task, and an instruction that is a text or a list of texts, were expected.")
    if not texts and task not in KNOWN:
        raise ValueError(f"An instruction was expected, or one of the tasks {', '.join(KNOWN)}.")


def _texts(fields: dict) -> list:
    given = fields.get("instruction") or []
    return given if isinstance(given, list) else [given]
