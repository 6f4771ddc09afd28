"""The images of all trials, made by a workflow on ComfyUI servers. What is made is kept, and never made again."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from ...models.guidance.tasks import OWN_WORDS
from ...models.messages import called_alike
from .. import ROOT
from ..servers.adapter_files import Adapters
from ..servers.api_prompt import ObjectInfo, input_definitions, read_workflow, to_prompt
from ..servers.fleet import Fleet
from ..servers.graph import WorkflowError
from ..servers.jobs import Job, Result, digest
from ..servers.journal import Journal, write_file
from ..servers.places import Places, find_places
from ..servers.progress import Progress, say
from ..servers.work import failed_last, records, take_in
from .manifest import Manifest
from .plan import Trial

IMAGES, JOURNAL = "images", "journal.jsonl"
WEIGHT, GUIDANCE, ADAPTER, MADE = "Weight", "Guidance", "Adapter", "Image"
# Places that a node's title names, with the input that is meant there, and the types of node that have it: where none
# is titled so, the only node of these types is the place.
VALUE_PLACES = {
    "Reference": ("image", ("LoadImage",)),
    ADAPTER: ("adapter_name", ("IPAdapterInstructLoader",)),
    "Task": ("task", ("IPAdapterInstructEncode",)),
    "Instruction": ("instruction", ("IPAdapterInstructEncode",)),
    "Prompt": ("prompt", ("IPAdapterInstructEncode",)),
    WEIGHT: ("weight", ("IPAdapterInstructApply",)),
    GUIDANCE: ("guidance", ("IPAdapterInstructApply",)),
    "Seed": ("seed", ("KSampler", "KSamplerAdvanced", "RandomNoise", "SamplerCustom")),
}
KINDS_OF_OWN = {"Reference": "picture", "Seed": "seed"}
PLACE_KINDS = {place: KINDS_OF_OWN.get(place, name) for place, (name, _) in VALUE_PLACES.items()}
GIVING = ("SaveImage", "PreviewImage")


@dataclass(frozen=True)
class Maker:
    """The workflow that makes the images, and the folder that they are kept in. name: of the workflow's file."""

    name: str
    workflow: dict
    output: Path
    manifest: Manifest

    @classmethod
    def of(cls, path: Path, output: Path, manifest: Manifest) -> Maker:
        """Read the workflow. Raises WorkflowError for a file that is none."""
        return cls(path.name, read_workflow(path), output, manifest)

    @cached_property
    def workflow_digest(self) -> str:
        return digest(self.workflow)

    def make(self, trials: Sequence[Trial], servers: Sequence[str]) -> tuple[dict[str, Path], list[str]]:
        """Return the images' files by the trials' keys, and what failed in words, trial by trial.

        Raises ValueError where images are left to make and no server is named or none answers, or where workflow or
        adapters are not what is needed; OSError, as for a full disk.
        """
        once = {trial.key: trial for trial in trials}
        adapters = Adapters(self.output, {trial.file for trial in trials})
        with ExitStack() as stack:
            journal = stack.enter_context(Journal(self.output / JOURNAL))
            fleet = stack.enter_context(Fleet(servers, say, meet=adapters.meet)) if servers else None
            digests = adapters.digests()
            jobs = [self.job(trial, digests) for trial in once.values()]
            done = records(jobs, journal, self.is_there)
            failed = self.run(jobs, adapters.names, journal, fleet, done) if len(done) < len(jobs) else []
            made = records(jobs, journal, self.is_there)
        keys = {job.key: key for job, key in zip(jobs, once, strict=True)}
        files = {keys[name]: self.output / record["image"] for name, record in made.items()}
        return files, sorted(f"{result.job.name}: {result.error}" for result in failed)

    def is_there(self, record: dict) -> bool:
        return (self.output / record["image"]).is_file()

    def run(
        self, jobs: Sequence[Job], names: Sequence[str], journal: Journal, fleet: Fleet | None, done: Mapping[str, dict]
    ) -> list[Result]:
        """Run the jobs that are not done, and return those that failed. names: of adapters."""
        if fleet is None:
            left = len(jobs) - len(done)
            raise ValueError(f"A ComfyUI server was expected to make {left} images; none is named. Say --server URL.")
        places = self.places(fleet.object_info)
        self.check_adapters(places, fleet.object_info, set(names))
        progress = Progress(len(jobs), len(done))
        giving = [replace(job, outputs=(places.outputs[MADE],)) for job in jobs]
        failed = take_in(fleet.run(failed_last(giving, journal, done)), journal, self.keep, progress)
        progress.say(str(progress))
        return failed

    def job(self, trial: Trial, digests: Mapping[str, str]) -> Job:
        """Return what makes a trial's image. digests: of adapters' files, as far as they are known."""
        row = trial.row
        values = {
            ADAPTER: trial.file,
            "Task": OWN_WORDS,
            "Instruction": trial.instruction,
            "Prompt": row.prompt,
            WEIGHT: trial.setting.weight,
            GUIDANCE: trial.setting.guidance,
            "Seed": row.seed,
        }

        def prompt(object_info: ObjectInfo, names: Mapping[str, str]) -> dict[str, dict]:
            given = {**values, "Reference": names["reference"]}
            return self.places(object_info).filled(to_prompt(self.workflow, object_info), given)

        label, weight, guidance = trial.line
        name = f"{row.place} by {label} at weight {weight:g}, {guidance}"
        files = {"reference": self.manifest.path(row)}
        return Job(digest(trial.key, self.workflow_digest, digests.get(trial.file)), name, prompt, files)

    def keep(self, result: Result) -> dict:
        """Write a result's image. Raises ValueError unless it is one."""
        from PIL import Image

        images = [image for found in result.images.values() for image in found]
        if len(images) != 1:
            raise ValueError(f"One image was expected; {len(images)} came. Let the workflow make one at a time.")
        try:
            with Image.open(io.BytesIO(images[0])) as picture:
                picture.load()
        except Exception as error:  # Pillow's decoders raise errors of many kinds
            raise ValueError(f"An image was expected; what came cannot be read: {error}.") from error
        target = self.output / IMAGES / f"{result.job.key[:32]}.png"
        write_file(images[0], target)
        return {"image": f"{IMAGES}/{target.name}"}

    def places(self, object_info: ObjectInfo) -> Places:
        """Return where values go and the image comes from. Raises WorkflowError where that cannot be told."""
        prompt = to_prompt(self.workflow, object_info)
        titled = find_places(prompt, object_info, PLACE_KINDS, (MADE,))
        inputs = dict(titled.inputs)
        given = dict(titled.outputs)
        wrong = []
        for place, (name, types) in {**VALUE_PLACES, MADE: ("", GIVING)}.items():
            if place not in inputs and place not in given:
                found = [node_id for node_id, node in prompt.items() if node["class_type"] in types]
                if len(found) != 1:
                    wrong.append(f'a node titled "{place}", or a single {" or ".join(types)} ({len(found)} are there)')
                elif place == MADE:
                    given[place] = found[0]
                else:
                    own = prompt[found[0]]["inputs"]
                    inputs[place] = ((found[0], "noise_seed" if place == "Seed" and "noise_seed" in own else name),)
        if wrong:
            raise WorkflowError(
                f"{self.name} was expected to have {'; '.join(wrong)}. Open it in ComfyUI and give each node that is "
                "meant its title."
            )
        return Places(inputs, given)

    def check_adapters(self, places: Places, object_info: ObjectInfo, names: set[str]) -> None:
        """Raises ValueError for adapters that the server's list has not."""
        prompt = to_prompt(self.workflow, object_info)
        for node_id, name in places.inputs[ADAPTER]:
            definitions = input_definitions(object_info[prompt[node_id]["class_type"]])
            offered = next((options.get("options") for one, _, options in definitions if one == name), None) or []
            missing = sorted(names - set(offered)) if offered else []
            if missing:
                alike = called_alike(missing[0], offered)
                raise ValueError(
                    f"{', '.join(missing)} was expected among the server's adapters; it is not. {alike}Put it into the "
                    "folder ipadapter of every server, and name it as ComfyUI lists it."
                )


def shipped_workflow(family: str) -> Path:
    """Return the file of a family's shipped workflow."""
    return ROOT / "workflows" / f"instruct_{family}.json"
