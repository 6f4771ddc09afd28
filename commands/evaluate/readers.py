"""Published sets, and folders of people, as manifests."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from ..pairs.sources import PICTURE_SUFFIXES
from .manifest import Manifest, manifest_of

DREAMBENCH_SIZE = (150, 1350)
DREAMBENCH_SEED = 42
# The tasks of DreamBench++'s categories. Of a subject its name is asked for, as the paper put an object's name into
# the instruction.
CATEGORIES = {"object": "object", "animal": "object", "human": "face", "style": "style"}
UNPACK = "Name the folder that its data.zip was unpacked into."
NEUTRAL_PROMPT = "a photo of a person"


def read_dreambench(folder: Path) -> Manifest:
    """Read DreamBench++'s data: images/CATEGORY/NUMBER.jpg and captions/CATEGORY/NUMBER.txt.

    The first line of a caption file is the subject, which here is the reference's caption; each other one is a prompt.
    Folders may stand between. Raises ValueError, which names every wrong file, for another folder.

    Source: yuangpeng/dreambench_plus@df0b960, dreambench_plus_dataset.py; the seed is generate_images.py's.
    """
    pictures, captions = folder / "images", folder / "captions"
    if not (pictures.is_dir() and captions.is_dir()):
        raise ValueError(
            f"DreamBench++'s data was expected in {folder}, with folders images and captions; they are not there. "
            f"{UNPACK}"
        )
    found = {path.relative_to(pictures).with_suffix("").as_posix(): path for path in _pictures(pictures)}
    told = {path.relative_to(captions).with_suffix("").as_posix(): path for path in sorted(captions.rglob("*.txt"))}
    return manifest_of(folder, _trials(folder, found, told), UNPACK)


def _trials(folder: Path, found: dict[str, Path], told: dict[str, Path]) -> Iterator[tuple[str, Callable[[], dict]]]:
    for name in sorted(found.keys() | told.keys()):
        if name not in found or name not in told:
            has = "There is a caption file and no picture." if name in told else "There is no caption file."
            yield name, partial(_refused, has)
            continue
        subject, *prompts = (line.strip() for line in told[name].read_text(encoding="utf-8").split("\n"))
        category = found[name].parent.name
        if category not in CATEGORIES or not subject or not any(prompts):
            yield name, partial(_refused, f"A subject and prompts were expected, in a folder {', '.join(CATEGORIES)}.")
            continue
        task = CATEGORIES[category]
        asked = {"instruction": f"use the {subject.lower()}"} if task == "object" else {}
        line = {"reference": found[name].relative_to(folder).as_posix(), "task": task, "caption": subject, **asked}
        for number, prompt in enumerate(filter(None, prompts)):
            yield f"{name}, prompt {number}", partial(dict, line, prompt=prompt, seed=DREAMBENCH_SEED)


def read_identities(folder: Path, prompts: Sequence[str], seeds: int) -> Manifest:
    """Read a folder with a folder of pictures for each person, each tried with every prompt and so many seeds.

    Raises ValueError, which names every wrong file, where there are none.
    """
    people = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    if not any(_pictures(person) for person in people):
        raise ValueError(f"A folder with a folder of pictures for each person was expected at {folder}; there is none.")
    lines = (
        {"reference": path.relative_to(folder).as_posix(), "task": "face", "identity": person.name, "prompt": prompt}
        for person in people
        for path in _pictures(person)
        for prompt in prompts
    )
    given = ((line["reference"], partial(dict, line, seed=seed)) for line in lines for seed in range(seeds))
    return manifest_of(folder, given, "Correct the folder.")


def _pictures(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in PICTURE_SUFFIXES)


def _refused(words: str) -> dict:
    raise ValueError(words)
