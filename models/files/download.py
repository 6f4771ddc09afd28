"""Get a published file by huggingface_hub: whole, checked and under its name, or not at all.

Mirrors (HF_ENDPOINT), proxies, tokens, and connections that break and are taken up again are huggingface_hub's. It
writes into a hidden folder beside the target, out of which the checked file is moved.
"""

import contextlib
import enum
import errno
import inspect
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from .published_files import PublishedFile, sha256_of

SHA256 = re.compile(r"[0-9a-f]{64}")
BUSY = (408, 425, 429, 500, 502, 503, 504)
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
# Those that huggingface_hub speaks HTTP by, each version by another, and itself.
WEB_LIBRARIES = {"requests", "urllib3", "httpx", "httpx2", "hf_xet", "huggingface_hub"}


# The kinds of failure: each wants something else of a user.
Problem = enum.Enum(
    "Problem",
    "UNREACHABLE OFFLINE BUSY FORBIDDEN MISSING NOT_A_FILE OTHER_ON_SERVER BROKEN_OFF ALTERED OTHER_IN_PLACE RUNNING "
    "NO_SPACE NOT_WRITABLE",
)


class DownloadError(Exception):
    """A file that could not be had. The message says what happened; what to do is said by who asked, by `problem`."""

    def __init__(self, problem: Problem, message: str):
        super().__init__(message)
        self.problem = problem


@dataclass(frozen=True)
class Download:
    """A file to get. size: in bytes. sha256: as the pack knows it or else the server states it; "" without either."""

    file: PublishedFile
    url: str
    target: Path
    size: int
    sha256: str


def plan(file: PublishedFile, models: Path) -> Download | None:
    """Return the download of a file that is missing in ComfyUI's folder `models`, None for one that is there.

    Nothing is written. Raises DownloadError for a server that does not have it, and for a file that is there and is
    another one.
    """
    target = models / file.folder / file.name
    if target.exists():
        _check_present(file, target)
        return None
    url, size, sha256 = _ask(file)
    for what, known, stated in (("size", file.size, size), ("sha256", file.sha256, sha256)):
        if known and stated and known != stated:
            message = f"{url} was expected to have {what} {known}; the server says {stated}."
            raise DownloadError(Problem.OTHER_ON_SERVER, message)
    return Download(file, url, target, size, file.sha256 or sha256)


def _ask(file: PublishedFile) -> tuple[str, int, str]:
    """Return the file's address, and the size and sha256 that the server states; "" where it states none."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    url = hf_hub_url(file.repository, file.path)
    with _plain_errors(url):
        found = get_hf_file_metadata(url)
    if not (found.size and found.etag and found.commit_hash):
        message = f"A file was expected from {url} ; what answers there is not Hugging Face, or a mirror of it."
        raise DownloadError(Problem.NOT_A_FILE, message)
    return url, found.size, found.etag if SHA256.fullmatch(found.etag) else ""


def _check_present(file: PublishedFile, target: Path) -> None:
    """Compare a file that is there with what is known of it, or else with what the server says, if it can be asked."""
    size, sha256 = file.size, file.sha256
    if not sha256:
        with contextlib.suppress(DownloadError):
            _, size, sha256 = _ask(file)
    for what, known, found in _differences(target, size, sha256):
        message = f"{target} is there already, and is not the published file"
        fact = f"its {what} was expected to be {known}, and is {found}"
        raise DownloadError(Problem.OTHER_IN_PLACE, f"{message}: {fact}.")


def _differences(path: Path, size: int, sha256: str) -> Iterator[tuple[str, int | str, int | str]]:
    """Yield what of a file is another than known, with what was known and what was found."""
    if size and size != (found := path.stat().st_size):
        yield "size", size, found
    if sha256 and sha256 != (found := sha256_of(path)):
        yield "sha256", sha256, found


def lacking_space(needs: Iterable[tuple[Path, int]]) -> list[DownloadError]:
    """Return an error for each disk that is too small. needs: for each file its path, and bytes to be written."""
    disks: dict[int, list[tuple[Path, int]]] = {}
    for path, size in needs:
        folder = next(parent for parent in path.parents if parent.is_dir())
        disks.setdefault(folder.stat().st_dev, []).append((folder, size))
    errors = []
    for there in disks.values():
        folder, needed = there[0][0], sum(size for _, size in there)
        free = shutil.disk_usage(folder).free
        if needed > free:
            message = f"{in_words(needed)} are still to come to {folder}, where {in_words(free)} are free."
            errors.append(DownloadError(Problem.NO_SPACE, f"Not enough disk space: {message}"))
    return errors


def get(download: Download, tell: Callable[[int], None] | None = None) -> None:
    """Download, check, and put in place.

    tell: given the bytes that are there so far, for who shows them or stops it all by raising; without, huggingface_hub
    shows a bar on a terminal. Raises DownloadError.
    """
    folder = download.target.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _folder_for(download) as hidden:
            with _plain_errors(download.url, Problem.BROKEN_OFF):
                received = _receive(download.file, hidden, tell)
            for what, known, found in _differences(received, download.size, download.sha256):
                message = f"{download.file.name} was expected to have {what} {known}; what was received has {found}."
                raise DownloadError(Problem.ALTERED, f"{message} It was removed.")
            if download.target.exists():
                message = f"{download.target} appeared during the download, and was left as it is."
                raise DownloadError(Problem.OTHER_IN_PLACE, f"{message} What was received was removed.")
            os.replace(received, download.target)
    except OSError as error:
        detail = "the disk is full" if error.errno in DISK_FULL else error.strerror
        message = f"{folder} cannot be written to ({detail})."
        raise DownloadError(Problem.NO_SPACE if error.errno in DISK_FULL else Problem.NOT_WRITABLE, message) from error


@contextlib.contextmanager
def _folder_for(download: Download) -> Iterator[Path]:
    """Yield a hidden folder beside the target, for one process at a time.

    It is removed in the end, unless huggingface_hub has left in it what it would go on with the next time.
    """
    from filelock import FileLock, Timeout

    folder = download.target.with_name(f".{download.target.name}.download")
    lock = FileLock(f"{folder}.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise DownloadError(Problem.RUNNING, f"Another download of {download.file.name} is running.") from error
    went_well = False
    try:
        yield folder
        went_well = True
    finally:
        if went_well or not any(folder.rglob("*.incomplete")):
            shutil.rmtree(folder, ignore_errors=True)
        lock.release()
        Path(lock.lock_file).unlink(missing_ok=True)


def _receive(file: PublishedFile, folder: Path, tell: Callable[[int], None] | None) -> Path:
    from huggingface_hub import hf_hub_download

    if tell is None:
        return Path(hf_hub_download(file.repository, file.path, local_dir=folder))
    can_be_watched = "tqdm_class" in inspect.signature(hf_hub_download).parameters  # not before huggingface_hub 1.1
    more: dict[str, Any] = {"tqdm_class": _bar(tell)} if can_be_watched else {}
    with _without_xet():
        return Path(hf_hub_download(file.repository, file.path, local_dir=folder, **more))


def _bar(tell: Callable[[int], None]) -> type:
    """Return what huggingface_hub uses of a tqdm, to tell of its progress."""

    class Bar(contextlib.AbstractContextManager):
        def __init__(self, *_, initial: int = 0, **__):
            self.received = initial

        def __exit__(self, *_):
            pass

        def update(self, received: int = 1) -> None:
            self.received += received
            tell(self.received)

    return Bar


@contextlib.contextmanager
def _without_xet() -> Iterator[None]:
    """Have huggingface_hub use plain HTTP: hf_xet goes on when its progress bar raises, so nobody could stop it."""
    from huggingface_hub import constants

    before, constants.HF_HUB_DISABLE_XET = getattr(constants, "HF_HUB_DISABLE_XET", False), True
    try:
        yield
    finally:
        constants.HF_HUB_DISABLE_XET = before


@contextlib.contextmanager
def _plain_errors(url: str, otherwise: Problem = Problem.UNREACHABLE) -> Iterator[None]:
    """Raise DownloadError for what huggingface_hub and the libraries below it raise, other than of the disk."""
    from huggingface_hub.errors import FileMetadataError, HfHubHTTPError, OfflineModeIsEnabled

    try:
        yield
    except HfHubHTTPError as error:
        raise _refused(url, error.response.status_code) from error
    except OfflineModeIsEnabled as error:
        raise DownloadError(Problem.OFFLINE, f"{url} was not asked for: HF_HUB_OFFLINE is set.") from error
    except FileMetadataError as error:
        raise DownloadError(Problem.NOT_A_FILE, f"A file was expected from {url} ; {error}") from error
    except Exception as error:
        of_disk = isinstance(error, OSError) and error.errno and not isinstance(error, ConnectionError)
        of_web = isinstance(error, (OSError, RuntimeError)) or type(error).__module__.split(".")[0] in WEB_LIBRARIES
        if of_disk or not of_web:
            raise
        happened = "cannot be reached" if otherwise is Problem.UNREACHABLE else "did not send all"
        raise DownloadError(otherwise, f"{urlsplit(url).netloc} {happened} ({error.__cause__ or error}).") from error


def _refused(url: str, status: int) -> DownloadError:
    host = urlsplit(url).netloc
    if status in BUSY:
        return DownloadError(Problem.BUSY, f"{host} is too busy to send {url} ({status}).")
    if status in (401, 403):
        return DownloadError(Problem.FORBIDDEN, f"{host} does not let everybody have {url} ({status}).")
    if status == 404:
        return DownloadError(Problem.MISSING, f"{host} has no {url} (404).")
    return DownloadError(Problem.NOT_A_FILE, f"{host} answers {status} for {url} .")


def in_words(size: int) -> str:
    unit, name = next(((unit, name) for unit, name in ((10**9, "GB"), (10**6, "MB")) if size >= unit), (10**3, "kB"))
    return f"{size / unit:,.2f} {name}" if unit == 10**9 else f"{size / unit:,.0f} {name}"
