"""Pairs made: the jobs of rows, and the files that come of them."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..servers.api_prompt import ObjectInfo, to_prompt
from ..servers.fleet import Fleet
from ..servers.graph import WorkflowError
from ..servers.jobs import Job, Result, digest, read_picture
from ..servers.journal import Journal, write_file
from ..servers.places import Places, check_there, find_places
from ..servers.progress import Progress
from ..servers.work import failed_last, records, take_in
from . import recipes
from .recipes import CAPTION, OUTPUTS, PAIR_PLACES, REFERENCE, TARGET, Recipe
from .rows import Row
from .sources import Sources

IMAGES = "images"  # the folder of a task's pictures
KEY_LENGTH = 24  # hexadecimal digits of a key that stand in a file's name
COPIED = {REFERENCE: recipes.PICTURE, TARGET: TARGET}  # what a pair has, and the job's file that it is if not made
AS_IT_IS = ("RGB", "L")  # pictures that every reader of them shows alike


@dataclass(frozen=True)
class Maker:
    """Makes the pairs of one task, in its folder. workflow: a workflow's file; None where none is needed."""

    recipe: Recipe
    sources: Sources
    folder: Path
    workflow: dict | None
    name: str = ""

    def places(self, object_info: ObjectInfo) -> Places:
        """Return the workflow's places. Raises WorkflowError for those that are missing."""
        found = find_places(to_prompt(self.workflow or {}, object_info), object_info, PAIR_PLACES, OUTPUTS)
        check_there(found, self.recipe.inputs, self.recipe.outputs, self.name)
        if not found.outputs:
            raise WorkflowError(f"{self.name} was expected to have a node titled {', '.join(OUTPUTS)}; it has none.")
        return found

    def keyed(self, rows: Sequence[Row], places: Places | None, object_info: ObjectInfo | None) -> dict[str, Row]:
        """Return the rows by their keys: digests of all that a pair's pictures depend on but files' content."""
        prompt = to_prompt(self.workflow, object_info) if self.workflow and object_info else {}
        bare = {node_id: {**node, "_meta": None} for node_id, node in prompt.items()}
        keyed: dict[str, Row] = {}
        for row in rows:
            files = {**row.files(), "target": row.target.picture if row.target else ""}
            run = places.filled(bare, self.values(row, files)) if places and row.runs else None
            key = digest(self.recipe.task, run, files if run is None else files["target"], row.source.picture)
            if key in keyed:
                raise ValueError(f"{row.source.place} says the same as {keyed[key].source.place}. Leave one out.")
            keyed[key] = row
        return keyed

    def values(self, row: Row, files: Mapping[str, str]) -> dict[str, object]:
        return {**row.values(self.recipe), **{place: files[place] for place in files if place in PAIR_PLACES}}

    def job(self, key: str, row: Row, places: Places | None) -> Job:
        """Return the job of a row. A pair of pictures that are there runs nothing."""
        inputs, outputs = (places.inputs, places.outputs) if places and row.runs else ({}, {})
        named = {**row.files(), TARGET: (row.target or row.source).picture}
        copied = {name for output, name in COPIED.items() if output not in outputs}
        files = {name: self.sources.folder / named[name] for name in named if name in inputs or name in copied}

        def prompt(object_info: ObjectInfo, names: Mapping[str, str]) -> dict[str, dict]:
            assert places and self.workflow
            return places.filled(to_prompt(self.workflow, object_info), self.values(row, names))

        sent = [name for name in files if name in inputs]
        return Job(key, row.source.place, prompt, files, list(outputs.values()), sent)

    def keep(self, result: Result, places: Places | None) -> dict:
        """Write a pair's pictures, those that were made and those that were there. Return what the journal notes."""
        job, made = result.job, {}
        for output, name in COPIED.items():
            node_id = places.outputs.get(output) if places and job.outputs else None
            if node_id is None:
                made[output] = self.copied(job.files[name])
            elif len(found := result.images.get(node_id, [])) != 1:
                raise ValueError(f"One picture was expected as {output}; the workflow gave {len(found)}.")
            else:
                made[output] = f"{IMAGES}/{job.key[:KEY_LENGTH]}-{output.lower()}.png"
                write_file(found[0], self.folder / made[output])
        if places and job.outputs and CAPTION in places.outputs:
            (made[CAPTION],) = result.texts.get(places.outputs[CAPTION]) or [""]
            if not made[CAPTION].strip():
                raise ValueError("A text was expected as Caption; the workflow gave none.")
        return made

    def copied(self, path: Path) -> str:
        """Copy a picture, turned as its file says and in plain colours; return its name in the task's folder."""
        content, suffix = plain_picture(path)
        name = path.relative_to(self.sources.folder).as_posix()
        target = f"{IMAGES}/{digest(name)[:KEY_LENGTH]}{suffix}"
        if not (self.folder / target).is_file() or (self.folder / target).read_bytes() != content:
            write_file(content, self.folder / target)
        return target

    def is_there(self, made: Mapping[str, str]) -> bool:
        return all((self.folder / made[output]).is_file() for output in COPIED)

    def make(
        self, keyed: Mapping[str, Row], places: Places | None, journal: Journal, fleet: Fleet | None
    ) -> list[Result]:
        """Make the pairs that are not made yet; return the failures."""
        jobs = [self.job(key, row, places) for key, row in keyed.items()]
        done = records(jobs, journal, self.is_there)
        progress = Progress(len(jobs), len(done))
        left, failed = failed_last(jobs, journal, done), []
        here = (copied_result(job) for job in left if not job.outputs)
        there = [job for job in left if job.outputs]
        for results in (here, fleet.run(there) if fleet else ()):
            failed += take_in(results, journal, lambda result: self.keep(result, places), progress)
        progress.say(str(progress))
        return failed


def copied_result(job: Job) -> Result:
    """Return the result of a job that runs nothing: its files are as they are."""
    try:
        return Result(job, files={name: read_picture(path)[1] for name, path in job.files.items()})
    except ValueError as error:
        return Result(job, error=str(error))


def plain_picture(path: Path) -> tuple[bytes, str]:
    """Return a picture's file and its suffix: the same file, or a PNG where readers would show it unlike Load Image."""
    from PIL import Image, ImageOps

    content = path.read_bytes()
    with Image.open(io.BytesIO(content)) as picture:
        turned = ImageOps.exif_transpose(picture)
        if turned.size == picture.size and picture.mode in AS_IT_IS and not picture.getexif().get(274, 1) > 1:
            return content, path.suffix.lower()
        made = io.BytesIO()
        turned.convert("RGB").save(made, "PNG")
    return made.getvalue(), ".png"
