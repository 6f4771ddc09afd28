"""One input read by the pack, and what came of it."""

from __future__ import annotations

import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from comfyhost.pack import pack_module

from fuzzing.inputs import Input, remove
from fuzzing.spoil_pickles import CANARY

LOAD, REFUSAL = "load", "refusal"
# What no input may lead to.
OTHER_ERROR, POOR_MESSAGE, CODE_RAN, MEMORY = "other error", "poor message", "code ran", "memory"
HANG, CRASH = "hang", "crash"
FAULTS = (OTHER_ERROR, POOR_MESSAGE, CODE_RAN, MEMORY, HANG, CRASH)

# Growth of the process's resident memory while it reads a file: this, and so many times what the file takes up.
ALLOWED_BYTES, ALLOWED_TIMES = 64 * 2**20, 4
LONGEST_MESSAGE = 1500
REMEDY = re.compile(r"\b(Download|Get|Put|Choose|choose|Load|Save|Make|Convert|Update|Use|download)\b")
# Events of sys.addaudithook that nothing which reads a file of tensors gives rise to.
EVENTS = re.compile(
    r"os\.(system|exec|fork|posix_spawn|spawn|putenv|mkdir|remove|rename)|subprocess\.|socket\.|shutil\."
)
heard: list[str] = []
listening = False


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
    os.chdir(folder)
    path = given.write(folder)
    taken = path.stat().st_blocks * 512 if given.content is not None else 0
    try:
        with _listening():
            before = start_of_peak()
            verdict, message = _judged(given, path, compute, host)
            grown = peak() - before
        if heard or os.path.lexists(folder / CANARY):
            verdict, message = CODE_RAN, ", ".join(heard) or f"{CANARY} was created"
        elif grown > ALLOWED_BYTES + ALLOWED_TIMES * taken:
            verdict, message = MEMORY, f"{grown:,} bytes for a file of {taken:,}; {verdict}: {message}"
        return Outcome(verdict, message, grown)
    finally:
        heard.clear()
        remove(path)
        remove(folder / CANARY)


def _judged(given: Input, path: Path, compute: bool, host: bool) -> tuple[str, str]:
    adapters_own = pack_module("models.files.tensor_files").AdapterFileError
    own = (adapters_own,) if given.reader == "adapter" else (adapters_own, ValueError)
    try:
        with warnings.catch_warnings(), torch.inference_mode():  # as ComfyUI runs its nodes
            warnings.simplefilter("ignore")  # torch's, of odd pickle protocols and of empty tensors
            READERS[given.reader](path, compute, host)
    except ValueError as error:
        if type(error) in own:
            poor = poverty(str(error), path.name)
            return (POOR_MESSAGE, f"{poor}: {error}"[:LONGEST_MESSAGE]) if poor else (REFUSAL, str(error))
        return OTHER_ERROR, _described(error)
    except BaseException as error:  # the file may lead to any, a panic of Rust's among them
        if isinstance(error, KeyboardInterrupt):
            raise
        return OTHER_ERROR, _described(error)
    return LOAD, ""


def poverty(message: str, file_name: str) -> str:
    """Say what a refusal's message lacks; nothing when it says what was expected, what was found and what to do."""
    if "expected" not in message and "known widths" not in message:
        return "does not say what was expected"
    if not REMEDY.search(message):
        return "does not say what to do"
    if len(message) > LONGEST_MESSAGE:
        return "is too long"
    return "" if message.isprintable() else "has control characters"


def _described(error: BaseException) -> str:
    trace, places = error.__traceback__, []
    while trace:
        code = trace.tb_frame.f_code
        places.append(f"{Path(code.co_filename).name}:{trace.tb_lineno} {code.co_name}")
        trace = trace.tb_next
    return f"{type(error).__name__}: {str(error)[:300]} [{' < '.join(reversed(places[-4:]))}]"


def _read_adapter(path: Path, compute: bool, host: bool) -> None:
    """Read as Load IPAdapter-Instruct does: its encoder is looked for first, by a look at names and shapes."""
    checkpoints = pack_module("models.adapter.checkpoint")
    _ = checkpoints.look_at(path).encoder_need
    if host:
        return _use_in_host(pack_module("models.encoding.loaded_adapter").LoadedAdapter.read(path))
    checkpoint = checkpoints.read_checkpoint(path)
    adapter = checkpoints.build(checkpoint)
    if compute:
        _use(adapter.image_projection.float(), checkpoint.kind, adapter.projections.float())


def _use(projection: torch.nn.Module, kind: object, projections: torch.nn.Module) -> None:
    tokens = projection(*_inputs(kind, projection.sizes))
    _check(tokens.shape[-1] == projection.sizes.out_width and tokens.shape[1] > 0, tokens)
    if _is_joint(projections):  # which takes what a layer of the model has made of the tokens
        tokens = torch.zeros(1, 3, projections.widths[0])
    list(projections(tokens))


def _is_joint(projections: torch.nn.Module) -> bool:
    return isinstance(projections, pack_module("models.denoisers.adapter_layers").TokenProjections)


def _use_in_host(adapter: object) -> None:
    tokens = adapter.image_tokens(*_inputs(adapter.kind, adapter.sizes))
    _check(tokens.shape[-1] == adapter.context_width, tokens)
    if not _is_joint(adapter.projections):
        adapter.keys_values(tokens, torch.float16)
    _check(len(adapter.fingerprint) == 64, tokens)


def _inputs(kind: object, sizes: object) -> Iterator[torch.Tensor]:
    """Yield what a projection of this kind takes, of one reference."""
    if kind.takes_instruction:
        yield torch.zeros(1, 5, sizes.image_width)
        yield from (torch.zeros(1, 3, sizes.text_width) for _ in range(2))
        return
    if kind.reads_face:
        yield torch.zeros(1, sizes.face_width)
    if kind.reads_hidden_states or kind.reads_image_embeds:
        yield torch.zeros(1, 5, sizes.image_width) if kind.reads_hidden_states else torch.zeros(1, sizes.image_width)


def _check(holds: bool, tokens: torch.Tensor) -> None:
    if not holds:
        raise AssertionError(f"tokens of {list(tokens.shape)}")


def _read_embeds(path: Path, compute: bool, host: bool) -> None:
    embeds = pack_module("models.encoding.stored_embeds").read_embeds(path)
    if compute:
        embeds.image_tokens.full.float().sum()


def _read_faces(path: Path, compute: bool, host: bool) -> None:
    faces = pack_module("models.reference.faces").read_faces(path)
    if compute:
        faces.averaged()
        _ = faces.normed


def _read_tower(path: Path, compute: bool, host: bool) -> None:
    """Read as an encoder that `auto` looks at, then as a file of open_clip's."""
    files = pack_module("models.encoding.open_clip.files")
    need = pack_module("models.files.encoder_files")
    need.find_encoder([(path.name, path)], need.VIT_H_HIDDEN_STATES)
    try:
        found = files.read_tower(path, files.IMAGE)
    except pack_module("models.files.tensor_files").AdapterFileError:
        raise
    except ValueError:
        found = files.read_tower(path, files.TEXT)
    if compute:
        _ = found.layers, found.mlp_width, found.encoder_sizes


READERS: dict[str, Callable[[Path, bool, bool], None]] = {
    "adapter": _read_adapter,
    "embeds": _read_embeds,
    "faces": _read_faces,
    "tower": _read_tower,
}


@contextmanager
def _listening():
    global listening
    listening = True
    try:
        yield
    finally:
        listening = False


def _hear(event: str, arguments: tuple) -> None:
    if listening and EVENTS.match(event):
        heard.append(f"{event} {str(arguments)[:100]}")


sys.addaudithook(_hear)


def start_of_peak() -> int:
    """Return the resident bytes now; `peak` counts from here. Linux only: elsewhere memory is not watched."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return sys.maxsize
    return _status("VmRSS")


def peak() -> int:
    """The most resident bytes since `start_of_peak`."""
    try:
        return _status("VmHWM")
    except OSError:
        return 0


def _status(field: str) -> int:
    with open("/proc/self/status", encoding="ascii", errors="replace") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(field))
