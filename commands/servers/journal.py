"""A file of JSON lines that says what is done, so that a command goes on where it was stopped."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

PART = ".part"  # of a file's name, with a number before it, while it is written


def write_file(content: bytes, target: Path) -> None:
    """Write a file for good, the whole of it or nothing. Raises OSError, as for a full disk."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.{os.getpid()}{PART}")
    try:
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)


def whole_lines(file: BinaryIO) -> list[bytes]:
    """Return a file's lines; half a line at its end, as a kill or a full disk leaves it, is cut off."""
    file.seek(0)
    *lines, torn = file.read().split(b"\n")
    if torn:
        file.truncate(file.tell() - len(torn))
    return lines


def append(file: BinaryIO, content: bytes) -> None:
    """Append to an unbuffered file for good, all or nothing. Raises OSError, as for a full disk."""
    end = file.seek(0, os.SEEK_END)
    try:
        if file.write(content) != len(content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), file.name)
        os.fsync(file.fileno())
    except OSError:
        file.truncate(end)
        raise


class Journal:
    """A file that only grows and says what is done; as a context manager, which keeps other commands away from it.

    What a kill has left half-written in the folder goes at the beginning.
    done: records by keys. failed: keys of what was tried and failed since. A line that is not whole, as a kill may
    leave the last one, does not count.
    """

    def __init__(self, path: Path):
        self.path = path
        self.done: dict[str, dict] = {}
        self.failed: set[str] = set()

    def __enter__(self) -> Journal:
        from filelock import FileLock, Timeout

        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.lock = FileLock(f"{self.path}.lock")
        try:
            self.lock.acquire(timeout=0)
        except Timeout:
            raise ValueError(f"Another command works in {self.path.parent}. Wait for it, or end it.") from None
        try:
            for left in self.path.parent.rglob(f"*.[0-9]*{PART}"):
                left.unlink()
            self.file = self.path.open("ab+", buffering=0)  # what the disk refuses stays in no buffer
            for line in whole_lines(self.file):
                self.take(line)
        except BaseException:
            self.lock.release()
            raise
        return self

    def __exit__(self, *_) -> None:
        self.file.close()
        self.lock.release()

    def take(self, line: bytes) -> None:
        try:
            entry = json.loads(line)
            key, record = entry["key"], entry.get("record")
        except (ValueError, KeyError, TypeError):
            return  # damaged: it is done again
        if isinstance(record, dict):
            self.done[key] = record
            self.failed.discard(key)
        else:
            self.failed.add(key)

    def add(self, key: str, record: Mapping[str, object] | None, **more: object) -> None:
        """Note for good what was made for a key; None: it failed. Raises OSError, as for a full disk."""
        line = json.dumps({"key": key, "record": record, **more}).encode() + b"\n"
        append(self.file, line)
        self.take(line)
