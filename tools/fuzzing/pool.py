"""Processes that try inputs. One that dies or hangs costs one input, which is named, and another takes its place."""

import itertools
import logging
import multiprocessing
import os
import resource
import signal
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from fuzzing.inputs import make
from fuzzing.trial import CRASH, HANG, Outcome, attempt, memory

MORE_DATA = 4 * 2**30  # bytes that a process may ask for beyond what it starts with, so that the machine outlives it
START = multiprocessing.get_context("fork")  # with torch, and ComfyUI, imported once
COMPUTED, HOSTED = 4, 20  # every how many-th input makes tokens, and is read in ComfyUI too


@dataclass(frozen=True)
class Plan:
    """The inputs to try, and how. host: whether some are read by ComfyUI's part of the pack too."""

    seed: int
    count: int = 0
    processes: int = 1
    host: bool = False
    seconds: float = 10.0

    def attempt(self, index: int, folder: Path) -> Outcome:
        return attempt(make(self.seed, index), folder, index % COMPUTED == 0, self.host and index % HOSTED == 0)


def outcomes(plan: Plan) -> Iterator[tuple[int, Outcome]]:
    """Yield index and outcome of every input of the plan, from its processes in turn."""
    shares = (_share(plan, range(n, plan.count, plan.processes)) for n in range(plan.processes))
    return filter(None, itertools.chain.from_iterable(itertools.zip_longest(*shares)))


def _share(plan: Plan, indices: range) -> Iterator[tuple[int, Outcome]]:
    """Yield the outcomes of these inputs from a process, and from another one behind each that ends it."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as folder:
        while indices:
            receiving, sending = START.Pipe(duplex=False)
            process = START.Process(target=_work, args=(plan, indices, Path(folder), sending), daemon=True)
            process.start()
            sending.close()
            try:
                while indices:
                    yield indices[0], receiving.recv()
                    indices = indices[1:]
            except EOFError:
                process.join()
                hung = process.exitcode == -signal.SIGALRM
                what = f"not done after {plan.seconds:g} s" if hung else f"the process ended with {process.exitcode}"
                yield indices[0], Outcome(HANG if hung else CRASH, what)
                indices = indices[1:]
            finally:
                process.kill()
                process.join()


def _work(plan: Plan, indices: range, folder: Path, results: Connection) -> None:
    logging.disable()
    if used := memory("VmData"):
        resource.setrlimit(resource.RLIMIT_DATA, (used + MORE_DATA, resource.RLIM_INFINITY))
    for index in indices:
        signal.setitimer(signal.ITIMER_REAL, plan.seconds)  # whose signal ends the process
        results.send(plan.attempt(index, folder))
