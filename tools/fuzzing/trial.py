"""One input read by the pack, and what came of it."""

from __future__ import annotations

import os
import re
import shutil
import sys
import traceback
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import torch
from comfyhost.in_process import pack_module

from fuzzing.inputs import Input
from fuzzing.spoil_pickles import CANARY

LOAD, REFUSAL = "load", "refusal"
# What no input may lead to.
OTHER_ERROR, POOR_MESSAGE, CODE_RAN, MEMORY = "other error", "poor message", "code ran", "memory"
CHANGED, HANG, CRASH = "file changed", "hang", "crash"
FAULTS = (OTHER_ERROR, POOR_MESSAGE, CODE_RAN, MEMORY, CHANGED, HANG, CRASH)

# Growth of the process's resident memory while it reads a file: this, and so many times what the file takes up.
ALLOWED_BYTES, ALLOWED_TIMES = 64 * 2**20, 4
LONGEST_MESSAGE = 1500
REMEDY = re.compile(r"\b(Download|Get|Put|Choose|choose|Load|Save|Make|Convert|Update|Use|download)\b")
# Events of sys.addaudithook that nothing which reads a file of tensors gives rise to.
EVENTS = re.compile(
    r"os\.(system|exec|fork|posix_spawn|spawn|putenv|mkdir|remove|rename)|subprocess\.|socket\.|shutil\."
)
heard: list[str] | None = None  # a list while an input is read


@dataclass(frozen=True)
class Outcome:
    """The outcome of an input.

    verdict: LOAD, REFUSAL or one of FAULTS. message: the refusal's, or what is wrong. grown: bytes of memory.
    """

    verdict: str
    message: str = ""
    grown: int = 0


def attempt(given: Input, folder: Path, compute: bool = True, host: bool = False) -> Outcome:
    """Write the input into the folder, read it, and judge. compute: also make tokens with what was loaded.

    host: with ComfyUI's layers and memory management, as its node does. The folder becomes the working directory.
    """
    global heard
    os.chdir(folder)
    path = given.write(folder)
    taken = path.stat().st_blocks * 512 if given.content else 0
    try:
        heard, before = [], _start_of_peak()
        verdict, message = _judged(given, path, compute, host)
        events, heard, grown = heard, None, memory("VmHWM") - before
        left = sorted(os.listdir(folder))
        if events or CANARY in left:
            verdict, message = CODE_RAN, f"{', '.join(events)}; the folder holds {left}"
        elif grown > ALLOWED_BYTES + ALLOWED_TIMES * taken:
            verdict, message = MEMORY, f"{grown:,} bytes for a file of {taken:,}; {verdict}: {message}"
        elif given.content and (left != [path.name] or not _begins_with(path, given.content)):
            verdict, message = CHANGED, f"the folder holds {left}; {verdict}: {message}"
        return Outcome(verdict, message, grown)
    finally:
        heard = None
        for entry in folder.iterdir():
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()


def _module(name: str) -> ModuleType:
    return pack_module(f"models.{name}")


def _begins_with(path: Path, content: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(content)) == content


def _judged(given: Input, path: Path, compute: bool, host: bool) -> tuple[str, str]:
    adapters_own = _module("files.tensor_files").AdapterFileError
    own = (adapters_own,) if given.reader == "adapter" else (adapters_own, ValueError)
    try:
        with warnings.catch_warnings(), torch.inference_mode():  # as ComfyUI runs its nodes
            warnings.simplefilter("ignore")  # torch's, of odd pickle protocols and of empty tensors
            READERS[given.reader](path, compute, host)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # the file may lead to any, a panic of Rust's among them
        if type(error) in own:
            poor = poverty(str(error))
            return (POOR_MESSAGE, f"{poor}: {error}"[:LONGEST_MESSAGE]) if poor else (REFUSAL, str(error))
        places = [f"{Path(f.filename).name}:{f.lineno} {f.name}" for f in traceback.extract_tb(error.__traceback__)]
        return OTHER_ERROR, f"{type(error).__name__}: {str(error)[:300]} [{' < '.join(places[:-5:-1])}]"
    return LOAD, ""


def poverty(message: str) -> str:
    """Say what a refusal's message lacks; nothing when it says what was expected, what was found and what to do."""
    if "expected" not in message and "known widths" not in message:
        return "does not say what was expected"
    if not REMEDY.search(message):
        return "does not say what to do"
    if len(message) > LONGEST_MESSAGE:
        return "is too long"
    return "" if message.isprintable() else "has control characters"


def _read_adapter(path: Path, compute: bool, host: bool) -> None:
    checkpoints = _module("adapter.checkpoint")
    _ = checkpoints.look_at(path).encoder_need
    if host:
        loaded = _module("encoding.loaded_adapter").LoadedAdapter.read(path)
        tokens = loaded.image_tokens(*_taken(loaded.kind, loaded.sizes))
        assert tokens.shape[-1] == loaded.context_width and len(loaded.fingerprint) == 64
        if not _is_joint(loaded.projections):
            loaded.keys_values(tokens, torch.float16)
        return
    checkpoint = checkpoints.read_checkpoint(path)
    adapter = checkpoints.build(checkpoint)
    if compute:
        projection, projections = adapter.image_projection.float(), adapter.projections.float()
        tokens = projection(*_taken(checkpoint.kind, projection.sizes))
        assert tokens.shape[-1] == projection.sizes.out_width and tokens.shape[1] > 0
        list(projections(torch.zeros(1, 3, projections.widths[0]) if _is_joint(projections) else tokens))


def _is_joint(projections: torch.nn.Module) -> bool:
    """True for those that take what a layer of the model has made of the tokens."""
    return isinstance(projections, _module("denoisers.adapter_layers").TokenProjections)


def _taken(kind: object, sizes: object) -> Iterator[torch.Tensor]:
    """Yield what a projection of this kind takes, of one reference."""
    if kind.takes_instruction:
        yield torch.zeros(1, 5, sizes.image_width)
        yield from (torch.zeros(1, 3, sizes.text_width) for _ in range(2))
        return
    if kind.reads_face:
        yield torch.zeros(1, sizes.face_width)
    if kind.reads_hidden_states or kind.reads_image_embeds:
        yield torch.zeros(1, 5, sizes.image_width) if kind.reads_hidden_states else torch.zeros(1, sizes.image_width)


def _read_tower(path: Path, *_) -> None:
    """Read as an encoder that `auto` looks at, then as a file of open_clip's."""
    files, need = _module("encoding.open_clip.files"), _module("files.encoder_files")
    need.find_encoder([(path.name, path)], need.VIT_H_HIDDEN_STATES)
    try:
        found = files.read_tower(path, files.IMAGE)
    except _module("files.tensor_files").AdapterFileError:
        raise
    except ValueError:
        found = files.read_tower(path, files.TEXT)
    _ = found.layers, found.mlp_width, found.encoder_sizes


READERS = {
    "adapter": _read_adapter,
    "embeds": lambda path, *_: _module("encoding.stored_embeds").read_embeds(path).image_tokens.full.float().sum(),
    "faces": lambda path, *_: _module("reference.faces").read_faces(path).averaged().normed,
    "tower": _read_tower,
}


def _hear(event: str, arguments: tuple) -> None:
    if heard is not None and EVENTS.match(event):
        heard.append(f"{event} {str(arguments)[:100]}")


sys.addaudithook(_hear)


def _start_of_peak() -> int:
    """Return the resident bytes now; VmHWM counts from here. Linux only: elsewhere memory is not watched."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return sys.maxsize
    return memory("VmRSS")


def memory(field: str) -> int:
    """Return what the system says of this process's memory, in bytes; 0 where it does not."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0
    return int(re.search(rf"^{field}:\s*(\d+)", status, re.MULTILINE)[1]) * 1024
