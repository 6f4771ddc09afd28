"""Write a file so that the whole of it is there in the end, or nothing."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from safetensors import SafetensorError

ANOTHER_PREFIX = "choose another filename_prefix"


def write_whole(content: bytes, target: Path, what: str, elsewhere: str = ANOTHER_PREFIX) -> None:
    """Write a new file, the whole of it or nothing. what, elsewhere: as in `cannot_write`.

    Raises ValueError for a target that is there already or cannot be written to.
    """
    with writing(target, what, len(content), elsewhere) as part:
        if target.exists():
            raise ValueError(f"{target} is there already, and is never written over. Choose another name.")
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # a disk may say only now that it is full


@contextlib.contextmanager
def writing(target: Path, what: str, size: int, elsewhere: str) -> Iterator[Path]:
    """Yield a path as `whole` does. Raises ValueError, by `cannot_write`, where the system refuses to write."""
    with refusals(what, target.parent, size, elsewhere), whole(target) as part:
        yield part


@contextlib.contextmanager
def refusals(
    what: str,
    folder: Path,
    size: int = 0,
    elsewhere: str = ANOTHER_PREFIX,
    errors: tuple[type[Exception], ...] = (OSError, SafetensorError),  # the second carries the system's, too
) -> Iterator[None]:
    """Turn the system's refusals to write into ValueError, in the words of `cannot_write`."""
    try:
        yield
    except errors as error:
        raise ValueError(cannot_write(what, folder, error, size, elsewhere)) from error


@contextlib.contextmanager
def whole(target: Path) -> Iterator[Path]:
    """Yield a path to write to, which becomes `target` when all went well, and is gone otherwise."""
    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        yield part
        os.replace(part, target)
    finally:
        with contextlib.suppress(OSError):  # what went wrong before counts
            part.unlink(missing_ok=True)


def cannot_write(what: str, folder: Path, error: Exception, size: int = 0, elsewhere: str = ANOTHER_PREFIX) -> str:
    """Return the message for a folder that a file cannot be written into.

    what: what is written, in words. size: what it needs, in bytes. elsewhere: how a user chooses another place.
    """
    refusal = getattr(error, "strerror", None) or error
    needed = f" {size / 1e6:.1f} MB are needed." if size else ""
    return (
        f"{what} were to be saved in {folder}; the system refused: {refusal}.{needed} Make room, "
        f"give ComfyUI the right to write there, or {elsewhere}. Nothing was left behind."
    )
