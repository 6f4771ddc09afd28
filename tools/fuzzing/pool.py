"""Processes that try inputs. One that dies or hangs costs one input, which is named, and another takes its place."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import resource
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path

from fuzzing.inputs import make
from fuzzing.trial import CRASH, HANG, Outcome, attempt

SECONDS = 10.0  # for one input
MORE_DATA = 4 * 2**30  # bytes that a worker may ask for beyond what it starts with, so that the machine outlives it
START = multiprocessing.get_context("fork")  # with torch, and ComfyUI, imported once


@dataclass(frozen=True)
class Plan:
    """The inputs to try: `count` of them from index `first` on.

    computed, hosted: every how many-th makes tokens, is read by ComfyUI's part of the pack too; 0 for none.
    """

    seed: int
    count: int
    first: int = 0
    processes: int = 1
    computed: int = 4
    hosted: int = 0
    seconds: float = SECONDS

    def attempt(self, index: int, folder: Path) -> Outcome:
        computed, hosted = (bool(every) and index % every == 0 for every in (self.computed, self.hosted))
        return attempt(make(self.seed, index), folder, computed, hosted)

    def indices(self, worker: int) -> range:
        return range(self.first + worker, self.first + self.count, self.processes)


@dataclass
class Worker:
    """A process, the indices it has not done, of which it is at the first, and since when."""

    process: multiprocessing.Process
    results: Connection
    left: range = range(0)
    since: float = 0.0

    def kill(self) -> None:
        self.process.kill()
        self.process.join()


def outcomes(plan: Plan) -> Iterator[tuple[int, Outcome]]:
    """Yield index and outcome of every input of the plan, in no order."""
    with tempfile.TemporaryDirectory(prefix="fuzzing-", dir=_memory_folder()) as folder:
        workers = [_start(plan, plan.indices(i), Path(folder)) for i in range(plan.processes)]
        try:
            while workers:
                wait([worker.results for worker in workers], timeout=0.5)
                for worker in list(workers):
                    yield from _received(worker)
                    fault = _fault(worker, plan)
                    if fault or not worker.process.is_alive():
                        yield from _received(worker)
                        workers.remove(worker)
                        if fault and worker.left:
                            index, *_ = worker.left
                            yield index, Outcome(*fault)
                            worker.left = worker.left[1:]
                        if worker.left:
                            workers.append(_start(plan, worker.left, Path(folder)))
        finally:
            for worker in workers:
                worker.kill()


def _memory_folder() -> str | None:
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def _start(plan: Plan, indices: range, parent: Path) -> Worker:
    receiving, sending = START.Pipe(duplex=False)
    folder = Path(tempfile.mkdtemp(dir=parent))
    process = START.Process(target=_work, args=(plan, indices, folder, sending), daemon=True)
    process.start()
    sending.close()
    return Worker(process, receiving, indices, time.monotonic())


def _work(plan: Plan, indices: range, folder: Path, results: Connection) -> None:
    logging.disable()
    _limit_memory()
    for index in indices:
        results.send((index, plan.attempt(index, folder)))


def _limit_memory() -> None:
    used = _data_bytes()
    if used:
        resource.setrlimit(resource.RLIMIT_DATA, (used + MORE_DATA, resource.RLIM_INFINITY))


def _data_bytes() -> int:
    with contextlib.suppress(OSError), open("/proc/self/status", encoding="ascii", errors="replace") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmData"))
    return 0


def _received(worker: Worker) -> Iterator[tuple[int, Outcome]]:
    with contextlib.suppress(EOFError):
        while worker.results.poll():
            index, outcome = worker.results.recv()
            worker.left, worker.since = worker.left[1:], time.monotonic()
            yield index, outcome


def _fault(worker: Worker, plan: Plan) -> tuple[str, str] | None:
    """Return what befell the input that the worker is at."""
    if worker.left and not worker.process.is_alive():
        return CRASH, f"the process ended with {worker.process.exitcode}"
    if worker.left and time.monotonic() - worker.since > plan.seconds:
        worker.kill()
        return HANG, f"not done after {plan.seconds:g} s"
    return None
