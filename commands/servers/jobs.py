"""A prompt to run on any of several servers, and what one server does with it."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from .api_prompt import ObjectInfo
from .client import Client, ClientError, NodeFailedError, PromptRejectedError, Run

SUBFOLDER = "ipadapter-instruct"  # of a server's input folder: what is uploaded replaces nothing of a user's
NAME_LENGTH = 32  # hexadecimal digits of a file's SHA-256


class UnreadableError(ValueError):
    """A file that a job needs cannot be read, or is no picture."""


@dataclass(frozen=True)
class Job:
    """A prompt to run. key: by which it is known again. name: for messages, such as a manifest's line.

    files: pictures by names of one's own, on which the result depends. sent: those that a server gets; None: all.
    prompt: given what a server says of its nodes, and what LoadImage calls each of the files there, returns the API
    prompt; a ValueError it raises is the job's failure. outputs: ids of the nodes whose results are wanted.
    """

    key: str
    name: str
    prompt: Callable[[ObjectInfo, Mapping[str, str]], dict[str, dict]]
    files: Mapping[str, Path] = field(default_factory=dict)
    outputs: Collection[str] = ()
    sent: Collection[str] | None = None


@dataclass(frozen=True)
class Result:
    """The end of a job: pictures (files' bytes) and texts by the ids of the nodes that gave them, or an error.

    files: fingerprints of the job's files, as they were sent.
    """

    job: Job
    images: Mapping[str, list[bytes]] = field(default_factory=dict)
    texts: Mapping[str, list[str]] = field(default_factory=dict)
    files: Mapping[str, dict] = field(default_factory=dict)
    error: str = ""


@dataclass
class Runner:
    """Runs jobs on one server, one after the other. timeout: seconds that one may take."""

    client: Client
    object_info: ObjectInfo
    go_on: Callable[[], bool]
    timeout: float
    uploaded: set[str] = field(default_factory=set)

    def run(self, job: Job) -> Result:
        """Run a job. Raises ClientError when the server is lost; every other failure is the job's, in the result."""
        try:
            files = {name: (path, *read_picture(path)) for name, path in job.files.items()}
            names = {name: self.upload(*file) for name, file in files.items() if job.sent is None or name in job.sent}
            run = self.follow(self.client.queue(job.prompt(self.object_info, names)))
        except (NodeFailedError, PromptRejectedError) as error:
            return Result(job, error=str(error))
        wanted = {node_id: run.outputs.get(node_id, {}) for node_id in job.outputs}
        prints = {name: found for name, (_, _, found) in files.items()}
        return Result(job, self.images(wanted), texts(wanted), prints)

    def follow(self, prompt_id: str) -> Run:
        """Wait for a prompt; where it is not waited for to its end, take it from the server."""
        try:
            return self.client.wait(prompt_id, timeout=self.timeout, go_on=self.go_on)
        except NodeFailedError:
            raise
        except BaseException:
            with suppress(ClientError):
                self.client.cancel(prompt_id)
            raise

    def upload(self, path: Path, content: bytes, found: dict) -> str:
        """Return what LoadImage calls a file, which is uploaded once, under a name by its content."""
        name = found["sha256"][:NAME_LENGTH] + path.suffix.lower()
        if name not in self.uploaded:
            self.client.upload_image(content, name, SUBFOLDER)
            self.uploaded.add(name)
        return f"{SUBFOLDER}/{name}"

    def images(self, outputs: Mapping[str, dict]) -> dict[str, list[bytes]]:
        made = {node_id: output["images"] for node_id, output in outputs.items() if output.get("images")}
        return {node_id: [self.client.download(image) for image in images] for node_id, images in made.items()}


def texts(outputs: Mapping[str, dict]) -> dict[str, list[str]]:
    found = {node_id: output.get("text") for node_id, output in outputs.items()}
    return {node_id: [str(one) for one in text] for node_id, text in found.items() if isinstance(text, (list, tuple))}


def read_picture(path: Path) -> tuple[bytes, dict]:
    """Return a picture's file, and its fingerprint. Raises UnreadableError for one that cannot be read or shown."""
    from PIL import Image

    try:
        content = path.read_bytes()
        with Image.open(io.BytesIO(content)) as picture:
            picture.load()
    except Exception as error:  # Pillow's readers raise whatever their formats make them
        raise UnreadableError(f"{path} was expected to be a picture; it cannot be read: {error}.") from error
    return content, fingerprint(path, content)


def fingerprint(path: Path, content: bytes) -> dict:
    """Return by what a file is known again: size, time and SHA-256."""
    return {"size": len(content), "time": path.stat().st_mtime_ns, "sha256": hashlib.sha256(content).hexdigest()}


def is_as_before(path: Path, before: Mapping[str, object]) -> bool:
    """Return whether a file is as its fingerprint says. Its content is read only where its time is another."""
    try:
        status = path.stat()
        if (status.st_size, status.st_mtime_ns) == (before.get("size"), before.get("time")):
            return True
        return fingerprint(path, path.read_bytes())["sha256"] == before.get("sha256")
    except OSError:
        return False


def digest(*values: object) -> str:
    """Return the SHA-256 of values that JSON can hold, for keys of jobs."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
