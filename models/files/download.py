"""Get a published file whole, checked and under its name, or not at all; broken off, it goes on from there.

huggingface_hub would be the library for this, but its versions differ in what matters here. As seen: 0.20.3 and 2.4.0
begin again after a killed process (0.24.7, 0.36.0 and 1.3.0 go on); they leave a .cache folder in the models folder
(0.20.3 a link into their cache); a part with changed bytes is finished and put in place (1.3.0).
"""

from __future__ import annotations

import contextlib
import errno
import glob
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from .published_files import PublishedFile
from .web import CHUNK, DownloadError, PassingError, Remote, UnreachableError, ask, opened

WAITS = (1, 3, 10)  # seconds before another try; as many tries may bring nothing
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class Download:
    """A file to get, and what its server says of it. What was received lies in `part` until it is whole."""

    file: PublishedFile
    url: str
    target: Path
    remote: Remote

    @property
    def part(self) -> Path:
        """The file beside the target for what was received; another content has another name, so two never mix."""
        content = hashlib.sha256(f"{self.url} {self.remote}".encode()).hexdigest()[:8]
        return self.target.with_name(f"{self.target.name}.{content}.part")

    @property
    def received(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    @property
    def left(self) -> int:
        return max(0, self.remote.size - self.received)

    @property
    def sha256s(self) -> set[str]:
        """The sha256 that the file must have: as this pack knows it, as the server states it."""
        return {self.file.sha256, self.remote.sha256} - {""}


def plan(file: PublishedFile, url: str, models: Path) -> Download | None:
    """Return the download of a file that is missing in ComfyUI's folder `models`, None for one that is there.

    Nothing is written. Raises DownloadError for a server that does not have it, and for a file that is there and is
    another one.
    """
    target = models / file.folder / file.name
    if not target.exists():
        return Download(file, url, target, known_to_be(file, url, ask(url)))
    check_present(file, url, target)
    return None


def known_to_be(file: PublishedFile, url: str, remote: Remote) -> Remote:
    """Return `remote` when it is the file that the pack knows. Raises DownloadError otherwise."""
    for what, known, stated in (("size", file.size, remote.size), ("sha256", file.sha256, remote.sha256)):
        if known and stated and known != stated:
            raise DownloadError(
                f"{url} was expected to have {what} {known}; the server says {stated}. It is not the file that this "
                "pack was made for: without HF_ENDPOINT, is it the same? Then look for a newer version of this pack."
            )
    return remote


def check_present(file: PublishedFile, url: str, target: Path) -> None:
    """Compare a file that is there with what is known of it, or else with what the server says, if it can be asked."""
    size, sha256 = file.size, file.sha256
    if not sha256:
        with contextlib.suppress(UnreachableError):
            remote = ask(url)
            size, sha256 = remote.size, remote.sha256
    for what, known, found in (("size", size, target.stat().st_size), ("sha256", sha256, lambda: sha256_of(target))):
        found = found() if known and callable(found) else found
        if known and known != found:
            raise DownloadError(
                f"{target} is there already, and is not the published file: its {what} was expected to be {known}, and "
                f"is {found}. If it works, keep it; else move it away and run the same command again."
            )


def lacking_space(downloads: Sequence[Download]) -> list[str]:
    """Return a message for each disk that is too small for what is left of these downloads."""
    disks: dict[int, list[Download]] = {}
    for download in downloads:
        disks.setdefault(existing(download.target.parent).stat().st_dev, []).append(download)
    messages = []
    for there in disks.values():
        folder = existing(there[0].target.parent)
        needed, free = sum(download.left for download in there), shutil.disk_usage(folder).free
        if needed > free:
            messages.append(
                f"Not enough disk space: {in_words(needed)} are still to come to {folder}, where {in_words(free)} are "
                f"free. Free {in_words(needed - free)}, or name another models folder with --models."
            )
    return messages


def existing(folder: Path) -> Path:
    """Return the folder, or the nearest above it that exists."""
    return next(parent for parent in (folder, *folder.parents) if parent.is_dir())


def get(download: Download, tell: Callable[[int], None]) -> None:
    """Download, check, and put in place. `tell` is given the bytes that are there so far.

    Raises DownloadError; a PassingError keeps what was received, for the next time.
    """
    try:
        download.target.parent.mkdir(parents=True, exist_ok=True)
        with only_one(download):
            drop_stale_parts(download)
            receive_all(download, tell)
            check(download)
            put_in_place(download)
    except OSError as error:
        raise not_written(download, error) from error


@contextlib.contextmanager
def only_one(download: Download) -> Iterator[None]:
    """Refuse while another process downloads the same file; the lock of a killed one is free."""
    from filelock import FileLock, Timeout

    lock = FileLock(f"{download.part}.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise DownloadError(f"Another download of {download.file.name} is running. Wait for it, or end it.") from error
    try:
        yield
    finally:
        lock.release()
        Path(lock.lock_file).unlink(missing_ok=True)


def drop_stale_parts(download: Download) -> None:
    """Remove what was received of another content, and what cannot be told to be of the same."""
    for path in download.target.parent.glob(f"{glob.escape(download.target.name)}.*.part"):
        if path != download.part or not download.remote.version:
            path.unlink()


def receive_all(download: Download, tell: Callable[[int], None]) -> None:
    """Receive what is missing; try again after a broken connection, until several in a row bring nothing."""
    fruitless = 0
    while download.left:
        before = download.received
        try:
            receive(download, tell)
        except PassingError:
            fruitless = 0 if download.received > before else fruitless + 1
            if fruitless >= len(WAITS):
                raise
            time.sleep(WAITS[fruitless])


def receive(download: Download, tell: Callable[[int], None]) -> None:
    """Receive from the first missing byte on; from the file's first where the server does not know Range."""
    with opened(download.url, f"bytes={download.received}-") as answer:
        if answer.remote != download.remote:
            raise DownloadError(
                f"{download.url} changed on the server while it was being downloaded. Run the same command again."
            )
        download.part.touch()
        with open(download.part, "r+b") as part:
            part.seek(answer.start)
            for chunk in answer.chunks():
                part.write(chunk)
                part.flush()
                tell(part.tell())


def check(download: Download) -> None:
    """Compare what was received with its size and every known sha256; remove it when it differs."""
    facts = [("size", download.remote.size, download.received)]
    if download.sha256s:
        found = sha256_of(download.part)
        facts += [("sha256", known, found) for known in download.sha256s]
    for what, known, found in facts:
        if known != found:
            download.part.unlink()
            raise DownloadError(
                f"{download.file.name} was expected to have {what} {known}; what was received has {found}. It was "
                "removed. Run the same command again; if that does not help, a proxy or mirror alters it."
            )


def put_in_place(download: Download) -> None:
    if download.target.exists():
        raise DownloadError(
            f"{download.target} appeared during the download, and was left as it is. The downloaded file is "
            f"{download.part.name} beside it: use either, remove the other."
        )
    os.replace(download.part, download.target)


def not_written(download: Download, error: OSError) -> DownloadError:
    """Return the error for a disk or a folder that takes no more."""
    folder = download.target.parent
    if error.errno in DISK_FULL:
        return DownloadError(
            f"The disk of {folder} is full. Free {in_words(download.left)} and run the same command again; "
            "it goes on where it stopped."
        )
    return DownloadError(
        f"{folder} cannot be written to ({error.strerror or error}). Check its disk and your right to write there, or "
        "name another models folder with --models."
    )


def sha256_of(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def in_words(size: int) -> str:
    """Return a number of bytes as people say it."""
    unit, name = next(((unit, name) for unit, name in ((10**9, "GB"), (10**6, "MB")) if size >= unit), (10**3, "kB"))
    return f"{size / unit:,.2f} {name}" if unit == 10**9 else f"{size / unit:,.0f} {name}"
