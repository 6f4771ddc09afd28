"""Work in a child process, whose limits, user and death are its own. POSIX only."""

from __future__ import annotations

import os
import resource
import signal
import time
import traceback
from collections.abc import Callable
from pathlib import Path

NOBODY = 65534
CANNOT_FORK = not hasattr(os, "fork")


def message_of(work: Callable[[], object], before: Callable[[], object] = lambda: None) -> str:
    """The message of the ValueError that `work` ends with in a child, after `before`; else what it ended with."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            before()
            work()
            said = "nothing was raised"
        except ValueError as error:
            said = str(error)
        except BaseException:
            said = traceback.format_exc()
        os.write(writing, said.encode()[:60000])
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read().decode()
    os.waitpid(child, 0)
    return said


def files_at_most(size: int) -> Callable[[], None]:
    """A limit on every file that the process writes, as a full disk is one."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return limit


def as_nobody() -> None:
    """The user without rights; root may read anything."""
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)


def killed_while(work: Callable[[], object], there: Callable[[], Path | None], seconds: float = 20) -> None:
    """Kill a child in the midst of `work`, as soon as there is an unfinished file.

    Giving the file its name, the last thing that `work` does, takes until then: else a busy machine might be too late.
    """
    child = os.fork()
    if child == 0:
        os.replace = lambda source, target: time.sleep(seconds)
        try:
            work()
        finally:
            os._exit(0)
    end = time.monotonic() + seconds
    while time.monotonic() < end and os.waitpid(child, os.WNOHANG) == (0, 0):
        part = there()
        if part is not None:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return
    raise AssertionError("the work was over before it could be killed")
