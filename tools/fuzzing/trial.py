"""One input read by the pack, and what came of it."""

import os
import re
import shutil
import sys
import traceback
import warnings
from dataclasses import dataclass
from pathlib import Path

import torch
from ipadapter_instruct.models.adapter import checkpoint as adapters
from ipadapter_instruct.models.denoisers.adapter_layers import TokenProjections
from ipadapter_instruct.models.encoding.open_clip import files as towers
from ipadapter_instruct.models.encoding.stored_embeds import read_embeds
from ipadapter_instruct.models.files.encoder_files import VIT_H_HIDDEN_STATES, find_encoder
from ipadapter_instruct.models.files.tensor_files import AdapterFileError
from ipadapter_instruct.models.reference.faces import read_faces

from fuzzing.inputs import Input
from fuzzing.spoil_torch_files import CANARY

LOAD, REFUSAL = "load", "refusal"
# What no input may lead to.
OTHER_ERROR, POOR_MESSAGE, CODE_RAN, MEMORY = "other error", "poor message", "code ran", "memory"
CHANGED, HANG, CRASH = "file changed", "hang", "crash"
FAULTS = (OTHER_ERROR, POOR_MESSAGE, CODE_RAN, MEMORY, CHANGED, HANG, CRASH)

# Growth of the process's resident memory while it reads a file: this, and so many times what the file takes up.
ALLOWED_BYTES, ALLOWED_TIMES = 64 * 2**20, 4
START_PEAK = "/proc/self/clear_refs"  # a 5 written here makes the peak, VmHWM, begin anew
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
        heard, before = [], memory("VmRSS")
        if before:
            Path(START_PEAK).write_text("5")
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


def _begins_with(path: Path, content: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(content)) == content


def _judged(given: Input, path: Path, compute: bool, host: bool) -> tuple[str, str]:
    own = (AdapterFileError,) if given.reader == "adapter" else (AdapterFileError, ValueError)
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
    _ = adapters.look_at(path).encoder_need
    if host:
        from ipadapter_instruct.models.encoding.loaded_adapter import LoadedAdapter

        loaded = LoadedAdapter.read(path)
        tokens = loaded.image_tokens(*_taken(loaded.kind, loaded.sizes))
        assert tokens.shape[-1] == loaded.context_width and len(loaded.fingerprint) == 64
        if not isinstance(loaded.projections, TokenProjections):
            loaded.keys_values(tokens, torch.float16)
        return
    checkpoint = adapters.read_checkpoint(path)
    adapter = adapters.build(checkpoint)
    if compute:
        projection, projections = adapter.image_projection.float(), adapter.projections.float()
        tokens = projection(*_taken(checkpoint.kind, projection.sizes))
        assert tokens.shape[-1] == projection.sizes.out_width and tokens.shape[1] > 0
        # Some take what a layer of the model has made of the tokens.
        of_layer = isinstance(projections, TokenProjections)
        list(projections(torch.zeros(1, 3, projections.widths[0]) if of_layer else tokens))


def _taken(kind: adapters.Kind, sizes: adapters.ProjectionSizes) -> list[torch.Tensor]:
    """Return what a projection of this kind takes, of one reference."""
    if kind.takes_instruction:
        shapes = [(1, 5, sizes.image_width), (1, 3, sizes.text_width), (1, 3, sizes.text_width)]
    else:
        shapes = [(1, sizes.face_width)] if kind.reads_face else []
        shapes += [(1, 5, sizes.image_width)] if kind.reads_hidden_states else []
        shapes += [(1, sizes.image_width)] if kind.reads_image_embeds else []
    return [torch.zeros(shape) for shape in shapes]


def _read_tower(path: Path, *_) -> None:
    """Read as an encoder that `auto` looks at, then as a file of open_clip's."""
    find_encoder([(path.name, path)], VIT_H_HIDDEN_STATES)
    try:
        found = towers.read_tower(path, towers.IMAGE)
    except AdapterFileError:
        raise
    except ValueError:
        found = towers.read_tower(path, towers.TEXT)
    _ = found.layers, found.mlp_width, found.encoder_sizes


READERS = {
    "adapter": _read_adapter,
    "embeds": lambda path, *_: read_embeds(path).image_tokens.full.float().sum(),
    "faces": lambda path, *_: read_faces(path).averaged().normed,
    "tower": _read_tower,
}


def _hear(event: str, arguments: tuple) -> None:
    if heard is not None and EVENTS.match(event):
        heard.append(f"{event} {str(arguments)[:100]}")


sys.addaudithook(_hear)


def memory(field: str) -> int:
    """Return what Linux says of this process's memory, in bytes; 0 elsewhere, where memory is not watched."""
    if not os.access(START_PEAK, os.W_OK):
        return 0
    return int(re.search(rf"{field}:\s*(\d+)", Path("/proc/self/status").read_text())[1]) * 1024
