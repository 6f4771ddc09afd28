"""The pairs to train on: a reference, the image that should come out, its caption, and what was asked for.

In a folder: images, and pairs.jsonl with a line for each pair, such as
    {"reference": "a.png", "target": "b.png", "caption": "a cat in a garden", "task": "style"}
    {"reference": "c.png", "target": "d.png", "caption": "a cat", "instruction": "use the brush strokes"}
"instruction" may be a list of phrasings. Or in webdataset shards: reference.png, target.png and json for each key.
Axes: H height, W width.
"""

import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..guidance.tasks import check_apart, instructions_of

LINES = "pairs.jsonl"
SHARD = ".tar"
FIELDS = {"reference", "target", "caption", "task", "instruction"}
IMAGE_FIELDS = ("reference", "target")
EXAMPLE_LINE = 'A line looks like {"reference": "a.png", "target": "b.png", "caption": "a cat", "task": "style"}.'


@dataclass(frozen=True)
class Pair:
    """One example. reference, target: give an image [H, W, 3] in 0..1. name: for messages.

    instructions: phrasings, of which one is drawn each time.
    """

    name: str
    reference: Callable[[], Tensor]
    target: Callable[[], Tensor]
    caption: str
    task: str
    instructions: tuple[str, ...]


def read_pairs(place: Path) -> list[Pair]:
    """Read the pairs in a folder, or in shards: one .tar, or a folder of them.

    Raises ValueError, before any image is read, for a place without pairs and for lines that are none.
    """
    shards = sorted(place.glob(f"*{SHARD}")) if place.is_dir() else [place] if place.suffix == SHARD else []
    if (place / LINES).is_file():
        pairs = list(_in_folder(place))
    elif shards and all(shard.is_file() for shard in shards):
        pairs = list(_in_shards(shards))
    else:
        raise ValueError(
            f"A folder with {LINES}, or {SHARD} shards, was expected at {place}; there is none. {EXAMPLE_LINE}"
        )
    if not pairs:
        raise ValueError(f"Pairs were expected in {place}; it holds none. {EXAMPLE_LINE}")
    check_apart(by_task(pairs))
    return pairs


def by_task(pairs: Iterable[Pair]) -> dict[str, tuple[str, ...]]:
    """Return every task's instructions."""
    tasks: dict[str, tuple[str, ...]] = {}
    for pair in pairs:
        tasks[pair.task] = tuple(dict.fromkeys([*tasks.get(pair.task, ()), *pair.instructions]))
    return tasks


def pair_of(name: str, line: object, images: Mapping[str, Callable[[], Tensor]]) -> Pair:
    """Return the pair of a line. Raises ValueError, which calls it `name`."""
    if not isinstance(line, dict) or not isinstance(line.get("caption"), str):
        raise ValueError(f"{name} was expected to be an object with a caption; it is {str(line)[:200]}. {EXAMPLE_LINE}")
    unknown = line.keys() - FIELDS
    if unknown:
        raise ValueError(
            f"{name} was expected to have {', '.join(sorted(FIELDS))}; it has {sorted(unknown)}. {EXAMPLE_LINE}"
        )
    given = line.get("instruction", [])
    given = [given] if isinstance(given, str) else given
    if not isinstance(given, list) or not all(isinstance(text, str) for text in given):
        raise ValueError(f"{name}'s instruction was expected to be a text or a list of texts. {EXAMPLE_LINE}")
    task = line.get("task") or next(iter(given), None)
    if not isinstance(task, str):
        raise ValueError(f"{name} was expected to have a task or an instruction; it has none. {EXAMPLE_LINE}")
    try:
        instructions = instructions_of(task, given)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    return Pair(name, images["reference"], images["target"], line["caption"], task, instructions)


def _in_folder(folder: Path) -> Iterator[Pair]:
    for number, text in enumerate((folder / LINES).read_text(encoding="utf-8").split("\n"), start=1):
        if text.strip():
            name = f"line {number} of {LINES}"
            line = _parsed(name, text)
            yield pair_of(name, line, {field: _file(name, folder, line, field) for field in IMAGE_FIELDS})


def _file(name: str, folder: Path, line: object, field: str) -> Callable[[], Tensor]:
    value = line.get(field) if isinstance(line, dict) else None
    if not isinstance(value, str) or not value:
        raise ValueError(f"{name} was expected to name an image as {field}; it has {value!r}. {EXAMPLE_LINE}")
    path = folder / value
    if not path.is_file():
        raise ValueError(f"{name} was expected to name an image in {folder} as {field}; {value} is not there.")
    return partial(_opened, path)


def _in_shards(shards: list[Path]) -> Iterator[Pair]:
    try:
        import webdataset
    except ImportError:
        raise ValueError(
            f"{shards[0].name} is a webdataset shard, and webdataset is not installed. Run: pip install webdataset"
        ) from None
    reader: Any = webdataset  # which does not mark its names as exported
    for sample in reader.WebDataset([str(shard) for shard in shards], shardshuffle=False, empty_check=False):
        name = f"{sample['__key__']} of {Path(sample['__url__']).name}"
        images = {field: _member(name, sample, field) for field in IMAGE_FIELDS}
        yield pair_of(name, _parsed(name, sample.get("json", b"null")), images)


def _member(name: str, sample: Mapping[str, bytes], field: str) -> Callable[[], Tensor]:
    content = next((value for key, value in sample.items() if key.startswith(f"{field}.")), None)
    if content is None:
        raise ValueError(f"{name} was expected to hold an image {field}.png; it holds {sorted(sample)}.")
    return lambda: _opened(io.BytesIO(content))


def _parsed(name: str, text: str | bytes) -> object:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ValueError(f"{name} was expected to be JSON; {error}. {EXAMPLE_LINE}") from None


def _opened(source: Path | io.BytesIO) -> Tensor:
    from PIL import Image

    with Image.open(source) as image:
        size, content = image.size, image.convert("RGB").tobytes()
    return torch.frombuffer(bytearray(content), dtype=torch.uint8).view(size[1], size[0], 3).float() / 255
